//! Several Sidecars for the same workloads: the first counts.

use crate::index::{World, bears, shown};
use crate::{Message, code};
use config::Sidecar;

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for sidecar in &world.intent.sidecars {
        let here = world.intent.sidecars.iter().filter(|other| other.namespace == sidecar.namespace);
        let whose = ("Sidecar", &sidecar.namespace, sidecar.name.as_str());
        let Some(selector) = &sidecar.workload_selector else {
            let general: Vec<&str> =
                here.filter(|other| other.workload_selector.is_none()).map(|other| other.name.as_str()).collect();
            if general.len() > 1 {
                let text = format!(
                    "The Sidecars [{}] in namespace {:?} have no workload selector, which can lead to undefined behavior.",
                    general.join(" "),
                    sidecar.namespace.as_str()
                );
                messages.extend(world.say(code::GENERAL_SIDECARS, whose, "spec", text));
            }
            continue;
        };
        let rivals: Vec<&Sidecar> = here
            .filter(|other| other.name != sidecar.name)
            .filter(|other| {
                other.workload_selector.as_ref().is_some_and(|wanted| meet(world, sidecar, selector, wanted))
            })
            .collect();
        if rivals.is_empty() {
            continue;
        }
        let names: Vec<&str> = rivals.iter().map(|other| other.name.as_str()).collect();
        let text = format!(
            "The Sidecars [{} {}] in namespace {:?} select the same workload {:?}, which can lead to undefined behavior.",
            sidecar.name,
            names.join(" "),
            sidecar.namespace.as_str(),
            shown(selector)
        );
        messages.extend(world.say(code::SIDECAR_SELECTORS, whose, "spec.workloadSelector", text));
    }
}

/// Whether a workload is selected by both: one that is known, or any that there may be.
fn meet(world: &World<'_>, sidecar: &Sidecar, one: &crate::index::Labels, other: &crate::index::Labels) -> bool {
    let here = world.workloads.iter().filter(|workload| workload.namespace == sidecar.namespace.as_str());
    one == other || here.into_iter().any(|workload| bears(&workload.labels, one) && bears(&workload.labels, other))
}
