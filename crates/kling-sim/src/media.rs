//! The files that results are: one real file for each type of result.

/// The type of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Video,
    Image,
    Audio,
    /// Several works in one file.
    Archive,
}

impl Media {
    /// The ending of its names.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Video => "mp4",
            Self::Image => "png",
            Self::Audio => "mp3",
            Self::Archive => "zip",
        }
    }

    /// Its `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Video => "video/mp4",
            Self::Image => "image/png",
            Self::Audio => "audio/mpeg",
            Self::Archive => "application/zip",
        }
    }

    /// The file that stands for every result of this type: it can be played, shown or unpacked.
    pub(crate) fn file(self) -> &'static [u8] {
        match self {
            Self::Video => include_bytes!("../assets/output.mp4"),
            Self::Image => include_bytes!("../assets/output.png"),
            Self::Audio => include_bytes!("../assets/output.mp3"),
            Self::Archive => include_bytes!("../assets/output.zip"),
        }
    }
}
