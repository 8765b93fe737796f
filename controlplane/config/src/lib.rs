//! Istio's configuration resources, validated and indexed as Intent.
