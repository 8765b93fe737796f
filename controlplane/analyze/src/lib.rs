//! What is wrong with a set of resources: each for itself, and all together.
//!
//! ```text
//! files ──add──▶ Resources ──problems──▶ what the readers and the CRDs refuse
//!                    └──────analyze────▶ the same, and what one file a rule finds between the resources
//! ```
//!
//! Messages bear Istio's codes where the meaning is Istio's, and our own (`ISTHMUS…`) where Istio has none.

pub mod code;
mod facts;
mod index;
mod message;
mod mistake;
mod resources;
mod rule;
mod schema;
mod suppress;

pub use code::Code;
pub use facts::Facts;
pub use message::{Message, Severity, Subject};
pub use resources::Resources;
pub use rule::rules;
pub use schema::{SchemaError, Schemas};
pub use suppress::Suppression;
