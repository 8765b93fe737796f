//! Istio documents with their positions, and the kinds that say what exists.
