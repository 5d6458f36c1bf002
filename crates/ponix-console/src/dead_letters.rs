//! Dead letters: found, shown, put back, removed.

mod reasons;
mod replay;
mod selection;
mod view;

pub use self::reasons::reasons;
pub use self::replay::{Replayed, remove, replay};
pub use self::selection::{Choice, Letter, Letters, Reading, Selection};
pub use self::view::{json as letter_json, text as letter_text};
