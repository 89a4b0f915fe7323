//! [`BareService`]: gRPC with nothing behind it.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// The generated messages and stubs.
#[allow(missing_docs, clippy::all)]
pub(super) mod wire {
    tonic::include_proto!("richardstore.bare");
}

use wire::{Ask, Piece};

/// Answers at once, and sends pieces of the same buffer.
pub(super) struct BareService;

#[tonic::async_trait]
impl wire::bare_server::Bare for BareService {
    type DownloadStream = BoxStream<'static, Result<Piece, Status>>;

    async fn unary(&self, request: Request<Piece>) -> Result<Response<Piece>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn download(
        &self,
        request: Request<Ask>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let Ask { bytes, piece_bytes } = request.into_inner();
        let length = usize::try_from(piece_bytes).unwrap_or(0).max(1);
        let piece = Bytes::from(vec![7; length]);
        let count = usize::try_from(bytes / piece_bytes.max(1)).unwrap_or(usize::MAX);
        let pieces = stream::repeat_with(move || {
            Ok(Piece {
                data: piece.clone(),
            })
        });
        Ok(Response::new(pieces.take(count).boxed()))
    }

    async fn upload(&self, request: Request<Streaming<Piece>>) -> Result<Response<Ask>, Status> {
        let mut pieces = request.into_inner();
        let mut bytes = 0;
        while let Some(piece) = pieces.message().await? {
            bytes += piece.data.len() as u64;
        }
        Ok(Response::new(Ask {
            bytes,
            piece_bytes: 0,
        }))
    }
}
