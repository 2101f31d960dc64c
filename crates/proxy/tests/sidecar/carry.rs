//! Calls that are carried to the upstream.

mod bodies;
mod fidelity;
mod hang_ups;
mod leases;
mod lost;
mod memory;
mod outcomes;
mod owners;
mod slots;
mod transparency;
mod wire;
