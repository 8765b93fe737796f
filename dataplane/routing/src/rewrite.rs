//! What an upstream, or a client that is sent elsewhere, gets instead of the path that was asked for.

use crate::condition::Condition;
use crate::text_match::compiled;
use api::envoy::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use regex::Regex;

/// A change of the path; the query stays.
#[derive(Debug, Clone)]
pub(crate) enum Rewrite {
    /// What was matched becomes this.
    Matched(Box<str>),
    /// All of it becomes this.
    Whole(Box<str>),
    /// What matches the expression becomes this.
    Regex(Regex, Box<str>),
}

// === impl Rewrite ===

impl Rewrite {
    pub(crate) fn regex(rewrite: &RegexMatchAndSubstitute) -> Result<Self, String> {
        let pattern = rewrite.pattern.as_ref().ok_or("regex_rewrite: pattern is expected")?;
        Ok(Self::Regex(compiled(&pattern.regex)?, substitution(&rewrite.substitution).into()))
    }

    /// `target` (path and query) rewritten, `condition` being that by which it was routed.
    pub(crate) fn apply(&self, target: &str, condition: &Condition) -> String {
        let end = target.find(['?', '#']).unwrap_or(target.len());
        let (path, query) = target.split_at(end);
        match self {
            Self::Matched(replacement) => format!("{replacement}{}{query}", &path[condition.matched(path)..]),
            Self::Whole(replacement) => format!("{replacement}{query}"),
            Self::Regex(regex, replacement) => format!("{}{query}", regex.replace_all(path, &**replacement)),
        }
    }
}

/// RE2's `\1` and `\\` as the expression engine has them.
fn substitution(text: &str) -> String {
    let mut result = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '$' => result.push_str("$$"),
            '\\' => match characters.next() {
                Some(digit) if digit.is_ascii_digit() => result.extend(["${", &digit.to_string(), "}"]),
                Some(other) => result.push(other),
                None => {}
            },
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_as_the_engine_has_them() {
        assert_eq!(substitution(r"/a/\2/\1$\\"), r"/a/${2}/${1}$$\");
    }
}
