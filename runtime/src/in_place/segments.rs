//! [`Segments`]: bytes in the pieces that they came in, read as one buffer. What lies within one piece is handed out as a part
//! of it; only what lies across several is put together.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Pieces, in order. None of them is empty.
#[derive(Debug, Default)]
pub(super) struct Segments {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Segments {
    /// Adds `piece` at the end.
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.remaining += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], Bytes::as_ref)
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while left > 0 {
            let front = self.pieces.front_mut();
            let front = front.expect("nobody advances past the end, as `Buf` demands");
            let part = left.min(front.len());
            front.advance(part);
            if front.is_empty() {
                self.pieces.pop_front();
            }
            left -= part;
        }
        self.remaining -= count;
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self.pieces.front_mut() {
            Some(front) if front.len() > length => {
                self.remaining -= length;
                front.split_to(length)
            }
            Some(front) if front.len() == length => {
                self.remaining -= length;
                self.pieces.pop_front().unwrap_or_default()
            }
            _ => {
                let mut together = BytesMut::with_capacity(length);
                together.put(self.take(length));
                together.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(pieces: &[&'static [u8]]) -> Segments {
        let mut segments = Segments::default();
        for piece in pieces {
            segments.push(Bytes::from_static(piece));
        }
        segments
    }

    #[test]
    fn what_lies_within_a_piece_is_not_copied() {
        let piece = Bytes::from(vec![7; 100]);
        let mut segments = Segments::default();
        segments.push(piece.clone());
        assert_eq!(segments.copy_to_bytes(40).as_ptr(), piece.as_ptr());
        let rest = segments.copy_to_bytes(60);
        assert_eq!(rest.as_ptr(), piece[40..].as_ptr());
        assert!(!segments.has_remaining());
    }

    #[test]
    fn what_lies_across_pieces_is_put_together() {
        let mut segments = segments(&[b"ab", b"", b"c", b"def"]);
        assert_eq!(segments.remaining(), 6);
        segments.advance(1);
        assert_eq!(segments.copy_to_bytes(3), "bcd");
        assert_eq!(segments.chunk(), b"ef");
        assert_eq!(segments.copy_to_bytes(2), "ef");
        assert_eq!(segments.copy_to_bytes(0), "");
        assert_eq!((segments.remaining(), segments.chunk().len()), (0, 0));
    }

    #[test]
    fn numbers_may_lie_across_pieces() {
        let mut segments = segments(&[&[0, 0], &[1], &[2, 9]]);
        assert_eq!(segments.get_u32(), 258);
        assert_eq!(segments.get_u8(), 9);
    }
}
