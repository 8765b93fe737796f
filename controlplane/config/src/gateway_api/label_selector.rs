//! Kubernetes' selector of objects by their labels.

use resource::{Field, ResourceError};
use std::collections::BTreeMap;

/// What labels must be like; all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LabelSelector(Vec<(String, Condition)>);

/// What one label must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Lacks,
}

// === impl LabelSelector ===

impl LabelSelector {
    pub(super) fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(&["matchLabels", "matchExpressions"])?;
        let equal = fields.get("matchLabels").texts()?;
        let mut all: Vec<(String, Condition)> =
            equal.into_iter().map(|(key, value)| (key, Condition::In(vec![value]))).collect();
        for item in fields.get("matchExpressions").items()? {
            let inside = item.fields(&["key", "operator", "values"])?;
            let (operator, values) = (inside.get("operator"), inside.get("values"));
            let listed = values.text_items()?;
            let condition = match (operator.required_text()?, listed.is_empty()) {
                ("In", false) => Condition::In(listed),
                ("NotIn", false) => Condition::NotIn(listed),
                ("Exists", true) => Condition::Exists,
                ("DoesNotExist", true) => Condition::Lacks,
                ("In" | "NotIn", true) => return Err(values.refuse("one value or more with In and NotIn")),
                ("Exists" | "DoesNotExist", false) => {
                    return Err(values.refuse("no values with Exists and DoesNotExist"));
                }
                _ => return Err(operator.refuse("In, NotIn, Exists or DoesNotExist")),
            };
            all.push((inside.get("key").required_text()?.to_owned(), condition));
        }
        Ok(Self(all))
    }

    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(key, condition)| {
            let value = labels.get(key);
            match condition {
                Condition::In(values) => value.is_some_and(|value| values.contains(value)),
                Condition::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Condition::Exists => value.is_some(),
                Condition::Lacks => value.is_none(),
            }
        })
    }
}
