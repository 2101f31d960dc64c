//! What each answer to a job start means for its slot and for the client.
