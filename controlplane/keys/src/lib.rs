//! The keys by which tokens are verified (JSON Web Key Sets, RFC 7517): fetched from where RequestAuthentications say they
//! are, so that no proxy has to reach an issuer.
//!
//! ```text
//! what is wanted -> Keeper -> Fetch (DNS, guard, TLS, HTTP) -> what is known, as long as it is not too old
//! ```

mod error;
mod fetch;
mod guard;
mod keeper;
mod metrics;
mod settings;

pub use error::FetchError;
pub use fetch::Fetch;
pub use keeper::keep;
pub use metrics::Metrics;
pub use settings::Settings;
