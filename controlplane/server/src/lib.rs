//! Watch, debounce, translate and push; the gateways' reports.
