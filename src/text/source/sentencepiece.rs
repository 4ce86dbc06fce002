//! As much of a SentencePiece model as a tokenizer needs: a protobuf message of pieces and of two specifications.
//!
//! Field numbers are those of `sentencepiece_model.proto`; unknown fields are passed over.

/// A piece of the vocabulary; its id is its position.
#[derive(Debug, PartialEq)]
pub struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A part of words, the unknown token, or one of no further interest.
    Plain,
    /// Such as `</s>`: in no text.
    Control,
    /// Matched as it is written.
    UserDefined,
}

#[derive(Debug, PartialEq)]
pub enum Algorithm {
    Unigram,
    Other(u64),
}

#[derive(Debug)]
pub struct Model {
    pub pieces: Vec<Piece>,
    pub algorithm: Algorithm,
    /// Position of the unknown token.
    pub unknown: usize,
    /// How characters are normalised, in the library's own format.
    pub charsmap: Vec<u8>,
}

impl Model {
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut model =
            Model { pieces: Vec::new(), algorithm: Algorithm::Unigram, unknown: 0, charsmap: Vec::new() };
        for field in Fields(bytes) {
            match field? {
                (1, Content::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Content::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        match field? {
                            (3, Content::Number(1)) => {}
                            (3, Content::Number(other)) => model.algorithm = Algorithm::Other(other),
                            (40, Content::Number(id)) => {
                                model.unknown = usize::try_from(id).map_err(|_| format!("unk_id {id}"))?;
                            }
                            _ => {}
                        }
                    }
                }
                (3, Content::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        if let (2, Content::Bytes(charsmap)) = field? {
                            model.charsmap = charsmap.to_vec();
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(model)
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Plain };
        for field in Fields(bytes) {
            match field? {
                (1, Content::Bytes(text)) => {
                    piece.text = std::str::from_utf8(text).map_err(|_| "a piece is not UTF-8")?.to_string();
                }
                (2, Content::Word(bits)) => piece.score = f32::from_bits(bits),
                (3, Content::Number(kind)) => {
                    piece.kind = match kind {
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        _ => Kind::Plain,
                    };
                }
                _ => {}
            }
        }
        match piece.score.is_finite() {
            true => Ok(piece),
            false => Err(format!("piece {:?} has the score {}", piece.text, piece.score)),
        }
    }
}

/// The value of a field.
enum Content<'a> {
    Number(u64),
    Word(u32),
    Bytes(&'a [u8]),
    /// Eight bytes; no field of interest has them.
    Wide,
}

/// The fields of a message, by number.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Content<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "its fields do not fit the file".into()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Content<'a>)> {
        let tag = self.varint()?;
        let content = match tag & 7 {
            0 => Content::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Content::Wide
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            5 => Content::Word(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        Some((tag >> 3, content))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes, shorter than 128.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    #[test]
    fn pieces_and_specifications() {
        let score = [&[2 << 3 | 5][..], &(-1.5f32).to_le_bytes()].concat();
        let piece = [bytes(1, "▁é".as_bytes()), score, vec![3 << 3, 4]].concat();
        // unk_id is field 40, so its tag takes two bytes.
        let trainer = [vec![3 << 3, 1], vec![0xc0, 0x02, 0x81, 0x01]].concat();
        let unknown_field = [&[9 << 3 | 1][..], &[0; 8]].concat();
        let file =
            [bytes(1, &piece), bytes(1, b""), unknown_field, bytes(2, &trainer), bytes(3, &bytes(2, b"map"))];
        let model = Model::parse(&file.concat()).unwrap();
        let first = Piece { text: "▁é".into(), score: -1.5, kind: Kind::UserDefined };
        assert_eq!(model.pieces, [first, Piece { text: String::new(), score: 0.0, kind: Kind::Plain }]);
        assert_eq!((model.unknown, model.charsmap.as_slice()), (129, &b"map"[..]));
        assert_eq!(model.algorithm, Algorithm::Unigram);
        let bpe = Model::parse(&bytes(2, &[3 << 3, 2])).unwrap();
        assert_eq!(bpe.algorithm, Algorithm::Other(2));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let endless = [0xff; 11];
        let nan = bytes(1, &[&[2 << 3 | 5][..], &f32::NAN.to_le_bytes()].concat());
        let group = [1 << 3 | 3];
        for file in
            [&endless[..], &[0x0a], &[0x0a, 5, 1], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], &nan, &group]
        {
            assert!(Model::parse(file).is_err(), "{file:?}");
        }
        assert!(Model::parse(&bytes(1, &bytes(1, &[0xff]))).is_err());
    }
}
