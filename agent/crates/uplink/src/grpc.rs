//! The link over gRPC: one bidirectional stream, TLS and a token off loopback.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};
use wire::v1::{self, link_client::LinkClient};

use crate::endpoint::{self, Gateway};
use crate::error::LinkError;
use crate::pump::{Inbox, OUTBOX, Wires};

const MAX_FRAME: usize = 8 << 20;

/// Opens the stream and sends the hello; the answer to it begins the stream's other direction.
pub(crate) async fn open(gateway: &mut Gateway, hello: v1::FromAgent) -> Result<Wires, LinkError> {
    let channel = gateway.channel.take().ok_or(LinkError::NotOpen)?;
    let bearer = gateway.bearer.clone();
    let mut client = LinkClient::with_interceptor(channel, move |mut request: Request<()>| {
        if let Some(bearer) = &bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok::<_, Status>(request)
    })
    .max_decoding_message_size(MAX_FRAME)
    .max_encoding_message_size(MAX_FRAME);
    let (outbox, frames) = mpsc::channel(OUTBOX);
    outbox.send(hello).await.map_err(|_| LinkError::Closed)?;
    // In TLS 1.3 the collector judges our certificate after the handshake: only now is it heard.
    let inbox =
        client.session(ReceiverStream::new(frames)).await.map_err(|status| {
            match endpoint::refused(&status) {
                Some(why) => LinkError::Certificate(why),
                None => LinkError::from(Box::new(status)),
            }
        })?;
    let inbox = inbox.into_inner();
    Ok(Wires { outbox, inbox: Inbox::Grpc(Box::new(inbox)) })
}
