//! What the upstream receives is what the client sent, but for the e-mail.
