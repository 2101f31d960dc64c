//! Clients that never name an account find their tasks again.
