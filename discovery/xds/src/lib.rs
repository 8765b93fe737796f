//! Both ends of Envoy's aggregated discovery service, delta and state of the world.
