//! Which files may be uploaded, and how large they may be.

/// What may be uploaded: the types, the largest size and the `status` of the answer.
pub(crate) const UPLOADS: [(&[&str], u64, u8); 3] = [
    (&["image/png", "image/jpeg"], 10 * MEGABYTE, 3),
    (&["video/mp4", "video/quicktime"], 100 * MEGABYTE, 1),
    (
        &[
            "audio/wav",
            "audio/wave",
            "audio/mpeg",
            "audio/mp4",
            "audio/flac",
            "audio/aac",
            "audio/ogg",
        ],
        20 * MEGABYTE,
        1,
    ),
];

const MEGABYTE: u64 = 1024 * 1024;

/// The largest size of a file of any type.
pub(crate) const UPLOAD_BYTES_MAX: u64 = 100 * MEGABYTE;
