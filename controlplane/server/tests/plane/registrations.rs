//! Proxies that register their workloads, and what comes of it for others.

use crate::rig::{Plane, node, until, upstream};
use xds::{Interception, Mode, Node};

const GROUP: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm, namespace: shop}
spec:
  hosts: [vm.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: vm}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: vms, namespace: shop}
spec:
  metadata: {labels: {app: vm}}
  template: {serviceAccount: vm}
";

fn member(group: &str, account: &str) -> Node {
    Node { auto_register_group: group.to_owned(), ..node("shop", account, Interception::Redirect) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_an_endpoint_while_it_is_connected_and_well() {
    let plane = Plane::start(&[("vm.yaml", GROUP)]).await;
    let (caller, vm) = (plane.enrol("shop", "caller").await, plane.enrol("shop", "vm").await);
    let caller = plane.proxy(&caller, node("shop", "caller", Interception::Redirect), Mode::Delta, &[]);
    let (name, endpoints) = (upstream("vm", 80), || caller.endpoints(&upstream("vm", 80)));
    until("the service has no endpoint", || caller.endpoints(&name) == Some(0)).await;

    for mode in [Mode::Delta, Mode::StateOfTheWorld] {
        let probing = Node { probes: true, ..member("vms", "vm") };
        let (health, heard) = tokio::sync::watch::channel(None);
        let proxy = plane.telling(&vm, probing, mode, heard);
        let known = || plane.registry.status.borrow().workloads.first().cloned();
        until("it has registered", || known().is_some_and(|one| one.connected)).await;
        assert_eq!(endpoints(), Some(0), "nothing is known of its health");
        health.send_replace(Some(Ok(())));
        until("it is an endpoint", || endpoints() == Some(1)).await;
        health.send_replace(Some(Err("it has a cold".to_owned())));
        until("it is none", || endpoints() == Some(0)).await;
        assert_eq!(known().and_then(|one| one.unhealthy).as_deref(), Some("it has a cold"));
        health.send_replace(Some(Ok(())));
        until("it is one again", || endpoints() == Some(1)).await;
        drop(proxy);
        until("it is forgotten", || known().is_none() && endpoints() == Some(0)).await;
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_register() {
    let plane = Plane::start(&[("vm.yaml", GROUP)]).await;
    let (other, vm) = (plane.enrol("shop", "other").await, plane.enrol("shop", "vm").await);
    let liar = plane.proxy(&other, member("vms", "other"), Mode::Delta, &[]);
    let lost = plane.proxy(&vm, member("none", "vm"), Mode::Delta, &[]);
    let good = plane.proxy(&vm, member("vms", "vm"), Mode::Delta, &[]);
    until("the member is told", || !good.told().held.is_empty()).await;
    until("the member has registered", || plane.registry.status.borrow().workloads.len() == 1).await;
    assert!(liar.told().held.is_empty() && lost.told().held.is_empty(), "nobody else is served");
    plane.stop().await;
}
