//! Calls that are carried to the upstream.

mod broken;
mod early;
mod fidelity;
mod headers;
mod memory;
mod message;
mod outcomes;
mod owners;
mod raw;
mod slots;
mod targets;
mod transparency;
