//! Slots that live as long as their jobs, judged by the simulator's books.
