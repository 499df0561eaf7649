//! A model's tokens as bytes: enough to turn results into text without the model file.

use edgeprof_model::Tokenizer;
use serde::{Deserialize, Serialize};

/// The text of every token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vocabulary {
    bos: Option<u32>,
    pieces: Vec<Vec<u8>>,
    /// Tokens that lose their leading space after BOS, ascending.
    spaced: Vec<u32>,
}

impl Vocabulary {
    /// That of a tokenizer.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let bos = tokenizer.bos();
        let pieces: Vec<_> = (0..tokenizer.vocab()).map(|id| tokenizer.decode_bytes(None, &[id])).collect();
        let spaced = (0..tokenizer.vocab())
            .filter(|id| tokenizer.decode_bytes(bos, &[*id]) != pieces[*id as usize])
            .collect();
        Self { bos, pieces, spaced }
    }

    /// As it is kept.
    ///
    /// # Panics
    /// Never: every vocabulary can be written.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a vocabulary can be written")
    }

    /// As it was kept.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }

    /// The text of `ids` after the token `before`; what is no UTF-8 becomes U+FFFD.
    pub fn text(&self, mut before: Option<u32>, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if let Some(piece) = self.pieces.get(id as usize) {
                let cut = before.is_some() && before == self.bos && self.spaced.binary_search(&id).is_ok();
                bytes.extend_from_slice(piece.get(usize::from(cut)..).unwrap_or_default());
            }
            before = Some(id);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny_model;

    #[test]
    fn it_says_what_the_tokenizer_says() {
        let (bytes, tokenizer) = tiny_model();
        let model = edgeprof_model::Model::load(&bytes, Some(&tokenizer)).unwrap();
        let tokenizer = model.tokenizer();
        let vocabulary = Vocabulary::from_bytes(&Vocabulary::of(tokenizer).to_bytes()).unwrap();
        let ids = tokenizer.encode_prompt("a b  é");
        for (before, ids) in [(None, &ids[..]), (ids.first().copied(), &ids[1..]), (Some(9), &ids[1..])] {
            assert_eq!(vocabulary.text(before, ids), tokenizer.decode(before, ids));
        }
        assert_eq!(vocabulary.text(None, &[u32::MAX]), "");
    }
}
