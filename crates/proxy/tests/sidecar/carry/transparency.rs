//! The conformance list of a transparent proxy.
