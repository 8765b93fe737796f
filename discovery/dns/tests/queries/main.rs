//! Real queries over UDP and TCP against the server, with a fake upstream behind it.

mod fixture;
mod forwarding;
mod malformed;
mod names;
