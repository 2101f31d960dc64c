//! Large bodies and slow readers in bounded memory.
