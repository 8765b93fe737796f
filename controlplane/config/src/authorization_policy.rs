//! AuthorizationPolicy: who may do what with a workload
//! (<https://istio.io/latest/docs/reference/config/security/authorization-policy/>).

use crate::{AccessCondition, AccessRule, AccessSource, PolicyTarget, TargetRef};
use model::Namespace;
use resource::{Document, Field, Node, Position, ResourceError, Source};

/// An AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// Who enforces it.
    pub target: PolicyTarget,
    /// What is done with requests that meet one of its rules.
    pub action: PolicyAction,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
    /// The rules; none is met by nothing.
    pub rules: Vec<AccessRule>,
}

/// What is done with requests that meet a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyAction {
    /// They are let in, and what meets no policy of this action is not.
    Allow,
    /// They are turned away.
    Deny,
    /// It is told of them.
    Audit,
    /// The extension provider of this name decides.
    Custom(String),
}

const FIELDS: &[&str] = &["selector", "targetRef", "targetRefs", "action", "provider", "rules"];
const MOST: usize = 512;
const DRY_RUN: &str = "istio.io/dry-run";

/// The AuthorizationPolicy that `document` holds in its raw `spec`.
pub(crate) fn read(
    document: &Document,
    spec: &Node,
    root: &str,
    source: &mut Source,
) -> Result<AuthorizationPolicy, ResourceError> {
    let at = Field::new(&document.position.file, "spec", spec);
    let fields = at.fields(FIELDS)?;
    let metadata = &document.metadata;
    let action = action(&fields.get("action"), &fields.get("provider"))?;
    let rules = fields.get("rules");
    let items = rules.items()?;
    if items.len() > MOST {
        return Err(rules.refuse(format!("at most {MOST} rules")));
    }
    if items.is_empty() && action != PolicyAction::Allow {
        return Err(
            rules.refuse("one or more rules: without any, only ALLOW means something, which is to let in nobody")
        );
    }
    let mut read = Vec::new();
    for item in &items {
        let rule = AccessRule::read(item, &metadata.namespace)?;
        if matches!(action, PolicyAction::Custom(_)) && asks_for_token(&rule) {
            return Err(item.refuse("no condition on tokens beside CUSTOM: they are looked at after it"));
        }
        read.push(rule);
    }
    if matches!(action, PolicyAction::Custom(_)) {
        source.warn(
            &fields.get("action"),
            "CUSTOM is not honoured yet: the provider is not asked, and what meets the rules is turned away",
        );
    }
    let target = PolicyTarget::read(&fields, document)?;
    if let PolicyTarget::Named(named) = &target
        && named.iter().any(|one| matches!(one, TargetRef::GatewayClass(_)))
        && metadata.namespace.as_str() != root
    {
        source.warn(&at, format!("a GatewayClass is named outside of the root namespace {root}: not honoured"));
    }
    Ok(AuthorizationPolicy {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        position: document.position.clone(),
        target,
        action,
        dry_run: dry_run(document)?,
        rules: read,
    })
}

fn action(at: &Field<'_>, provider: &Field<'_>) -> Result<PolicyAction, ResourceError> {
    let name = provider.fields(&["name"])?.get("name");
    let read = match at.text()? {
        None | Some("ALLOW") => PolicyAction::Allow,
        Some("DENY") => PolicyAction::Deny,
        Some("AUDIT") => PolicyAction::Audit,
        Some("CUSTOM") => {
            let name = name.required_text()?;
            return Ok(PolicyAction::Custom(name.to_owned()));
        }
        Some(_) => return Err(at.refuse("ALLOW, DENY, AUDIT or CUSTOM")),
    };
    if provider.is_present() { Err(provider.refuse("nothing beside another action than CUSTOM")) } else { Ok(read) }
}

/// The annotation that has a policy only tell what it would do.
fn dry_run(document: &Document) -> Result<bool, ResourceError> {
    match document.metadata.annotations.get(DRY_RUN).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(ResourceError {
            position: document.position.clone(),
            path: format!("metadata.annotations[{DRY_RUN:?}]"),
            value: format!("{other:?}"),
            expected: "true or false".to_owned(),
        }),
    }
}

fn asks_for_token(rule: &AccessRule) -> bool {
    let of_source = |source: &AccessSource| !source.request_principals.is_empty();
    let of_token =
        |when: &AccessCondition| matches!(when, AccessCondition::RequestPrincipal(_) | AccessCondition::Claim(..));
    rule.from.iter().any(of_source) || rule.when.iter().any(of_token)
}
