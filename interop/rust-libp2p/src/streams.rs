//! Raw streams: of libp2p's own crates for them, `libp2p-stream` drops those of a hundred that come at the same time.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{ready, Ready},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use libp2p::{
    core::{
        transport::PortUse,
        upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo},
        Endpoint,
    },
    swarm::{
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
        SubstreamProtocol, THandler, ToSwarm,
    },
    Multiaddr, PeerId, Stream, StreamProtocol,
};
use tokio::sync::{mpsc, oneshot};

type Opened = oneshot::Sender<Result<Stream, String>>;

/// What a connection is told to do.
#[derive(Debug)]
pub enum Ask {
    Open(StreamProtocol, Opened),
    /// Look again at which protocols are handled.
    Look,
}

/// Opens streams, from any task.
#[derive(Clone)]
pub struct Opener(mpsc::UnboundedSender<(PeerId, Ask)>);

impl Opener {
    pub async fn open(&self, peer: PeerId, protocol: &'static str) -> Result<Stream, String> {
        let (sender, receiver) = oneshot::channel();
        let ask = Ask::Open(StreamProtocol::new(protocol), sender);
        self.0.send((peer, ask)).map_err(|error| error.to_string())?;
        receiver.await.map_err(|_| format!("{peer} is not connected"))?
    }
}

/// Is given what others open.
pub type Serve = Arc<dyn Fn(PeerId, StreamProtocol, Stream) + Send + Sync>;

pub struct Behaviour {
    asked: mpsc::UnboundedReceiver<(PeerId, Ask)>,
    sender: mpsc::UnboundedSender<(PeerId, Ask)>,
    handled: Arc<Mutex<Vec<StreamProtocol>>>,
    serve: Serve,
}

impl Behaviour {
    pub fn new(handled: &[&'static str], serve: Serve) -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let handled = handled.iter().map(|name| StreamProtocol::new(name)).collect();
        Self { asked, sender, handled: Arc::new(Mutex::new(handled)), serve }
    }

    pub fn opener(&self) -> Opener {
        Opener(self.sender.clone())
    }

    /// Handle one more protocol, and have those who are connected told of it.
    pub fn handle(&mut self, protocol: StreamProtocol, connected: impl Iterator<Item = PeerId>) {
        self.handled.lock().unwrap().push(protocol);
        for peer in connected {
            let _ = self.sender.send((peer, Ask::Look));
        }
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler { peer, handled: self.handled.clone(), serve: self.serve.clone(), asked: VecDeque::new(), waker: None }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Ask>> {
        match self.asked.poll_recv(cx) {
            Poll::Ready(Some((peer_id, event))) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            _ => Poll::Pending,
        }
    }
}

pub struct Handler {
    peer: PeerId,
    handled: Arc<Mutex<Vec<StreamProtocol>>>,
    serve: Serve,
    asked: VecDeque<(StreamProtocol, Opened)>,
    waker: Option<Waker>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Ask;
    type ToBehaviour = Infallible;
    type InboundProtocol = Handled;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Handled> {
        SubstreamProtocol::new(Handled(self.handled.lock().unwrap().clone()), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Opened, Infallible>> {
        if let Some((protocol, opened)) = self.asked.pop_front() {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol), opened);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, ask: Ask) {
        if let Ask::Open(protocol, opened) = ask {
            self.asked.push_back((protocol, opened));
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Handled, Self::OutboundProtocol, (), Opened>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (stream, name), .. }) => {
                (self.serve)(self.peer, name, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: opened }) => {
                let _ = opened.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: opened }) => {
                let _ = opened.send(Err(error.to_string()));
            }
            _ => {}
        }
    }
}

/// Takes streams of any of these protocols.
pub struct Handled(Vec<StreamProtocol>);

impl UpgradeInfo for Handled {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Handled {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}
