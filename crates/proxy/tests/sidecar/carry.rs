//! Calls that are carried to the upstream.

mod belongings;
mod bodies;
mod broken;
mod chaos;
mod downloads;
mod early;
mod fidelity;
mod hang_ups;
mod headers;
mod keys;
mod leases;
mod lost;
mod memory;
mod message;
mod moving;
mod operations;
mod outcomes;
mod owners;
mod raw;
mod reads;
mod restart;
mod slots;
mod targets;
mod transparency;
mod unsent;
mod wire;
