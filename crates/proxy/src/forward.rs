//! The transparent proxy: what a call to the upstream means, and what is changed in passing.
//!
//! Pure so far: which operation a call is, which headers pass, where an e-mail stands in a request
//! and how it is put in without touching any other byte, what an answer means for its slot.

pub mod email;
pub mod headers;
pub mod operations;
pub mod outcome;
