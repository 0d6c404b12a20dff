//! A peer that obeys the lines of ../../lines.md.

mod protocols;
mod streams;

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fs,
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    gossipsub, identify,
    identity::Keypair,
    noise, ping, quic,
    swarm::{dial_opts::DialOpts, NetworkBehaviour, SwarmEvent},
    tcp, tls, yamux, PeerId, StreamProtocol, Swarm, SwarmBuilder, Transport,
};
use libp2p_websocket as websocket;
use tokio::io::{AsyncBufReadExt, BufReader};

type Failure = Box<dyn Error + Send + Sync>;

const MIB: usize = 1 << 20;
/// Messages that are published before the network is served again.
const BURST: usize = 16;
/// Its own are 15 seconds apart, and nobody can have one sooner.
const PING_SECONDS: u64 = 1;

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossipsub: gossipsub::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    streams: streams::Behaviour,
}

struct Flood {
    topic: String,
    count: u64,
    done: u64,
    size: usize,
}

struct Peer {
    swarm: Swarm<Behaviour>,
    opener: streams::Opener,
    told: HashMap<PeerId, identify::Info>,
    pinging: HashSet<PeerId>,
    counts: HashMap<String, (u64, u64)>,
    flood: Option<Flood>,
}

/// Say what comes of something, when it does.
fn say_later(answer: impl Future<Output = Result<String, String>> + Send + 'static) {
    tokio::spawn(async move {
        match answer.await {
            Ok(line) => println!("{line}"),
            Err(error) => println!("error {}", error.replace('\n', " ")),
        }
    });
}

impl Peer {
    fn flood_some(&mut self) -> Result<Option<Duration>, Failure> {
        let Some(flood) = self.flood.as_mut() else { return Ok(None) };
        for _ in 0..BURST {
            let mut data = vec![0; flood.size];
            data[..8].copy_from_slice(&flood.done.to_be_bytes());
            let topic = gossipsub::IdentTopic::new(&flood.topic);
            match self.swarm.behaviour_mut().gossipsub.publish(topic, data) {
                Ok(_) => flood.done += 1,
                Err(gossipsub::PublishError::AllQueuesFull(_)) => return Ok(Some(Duration::from_millis(1))),
                Err(error) => return Err(error.into()),
            }
            if flood.done == flood.count {
                println!("flooded {} {}", flood.topic, flood.count);
                self.flood = None;
                return Ok(None);
            }
        }
        Ok(Some(Duration::ZERO))
    }

    fn saw(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                let me = self.swarm.local_peer_id();
                println!("ready {me} {address}/p2p/{me}");
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => println!("connected {peer_id}"),
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => println!("disconnected {peer_id}"),
            SwarmEvent::OutgoingConnectionError { error, .. } => println!("error {}", error.to_string().replace('\n', " ")),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                self.told.insert(peer_id, info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, result, .. })) if self.pinging.remove(&peer) => {
                match result {
                    Ok(time) => println!("pong {peer} {}", time.as_micros()),
                    Err(error) => println!("error {error}"),
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(gossipsub::Event::Message { message, .. })) => {
                let topic = message.topic.into_string();
                if let Some((seen, wanted)) = self.counts.get_mut(&topic) {
                    *seen += 1;
                    if seen == wanted {
                        println!("counted {topic} {seen}");
                    }
                } else {
                    let author = message.source.map(|peer| peer.to_string()).unwrap_or_default();
                    println!("message {topic} {author} {}", hex::encode(&message.data));
                }
            }
            _ => {}
        }
    }

    fn identify(&self, peer: PeerId) {
        let Some(info) = self.told.get(&peer) else { return println!("unidentified {peer}") };
        let record = if info.signed_peer_record.is_some() { "signed" } else { "plain" };
        let protocols: Vec<&str> = info.protocols.iter().map(AsRef::as_ref).collect();
        let agent = info.agent_version.replace(' ', "_");
        println!("identified {peer} {agent} {} {record} {}", info.observed_addr, protocols.join(","));
    }

    fn obey(&mut self, line: &str) -> Result<(), Failure> {
        let words: Vec<&str> = line.split(' ').collect();
        let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
        match words[..] {
            // Not from the port it listens on, which is somebody else's in the meantime now and then.
            ["connect", address] => {
                self.swarm.dial(DialOpts::unknown_peer_id().address(address.parse()?).allocate_new_port().build())?;
            }
            ["disconnect", peer] => drop(self.swarm.disconnect_peer_id(peer.parse()?)),
            ["identify", peer] => self.identify(peer.parse()?),
            ["handle", name] => {
                let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
                let protocol = StreamProtocol::try_from_owned(name.into())?;
                self.swarm.behaviour_mut().streams.handle(protocol, connected.into_iter());
                println!("handling {name}");
            }
            ["ping", peer] => drop(self.pinging.insert(peer.parse()?)),
            ["perf", peer, up, down] => {
                say_later(protocols::perf(self.opener.clone(), peer.parse()?, up.parse()?, down.parse()?));
            }
            ["digest", peer, name, size, count] => {
                let (size, count) = (size.parse()?, count.parse()?);
                say_later(protocols::digest(self.opener.clone(), peer.parse()?, name.into(), size, count));
            }
            ["reset", peer] => say_later(protocols::reset(self.opener.clone(), peer.parse()?)),
            ["subscribe", topic] => {
                gossipsub.subscribe(&gossipsub::IdentTopic::new(topic))?;
                println!("subscribed {topic}");
            }
            ["unsubscribe", topic] => {
                gossipsub.unsubscribe(&gossipsub::IdentTopic::new(topic));
                println!("unsubscribed {topic}");
            }
            ["publish", topic, data] => {
                gossipsub.publish(gossipsub::IdentTopic::new(topic), hex::decode(data)?)?;
                println!("published {topic}");
            }
            ["peers", topic] => {
                let hash = gossipsub::IdentTopic::new(topic).hash();
                let peers: Vec<String> = gossipsub
                    .all_peers()
                    .filter(|(_, topics)| topics.contains(&&hash))
                    .map(|(peer, _)| peer.to_string())
                    .collect();
                println!("peers {topic} {}", peers.join(","));
            }
            ["count", topic, wanted] => {
                self.counts.insert(topic.to_string(), (0, wanted.parse()?));
                println!("counting {topic}");
            }
            ["flood", topic, count, size] => {
                self.flood = Some(Flood { topic: topic.into(), count: count.parse()?, done: 0, size: size.parse()? });
            }
            _ => return Err(format!("what is {line}?").into()),
        }
        Ok(())
    }
}

/// By `key`: the types that the library can make, which RSA is not among.
fn keypair(kind: &str) -> Result<Keypair, Failure> {
    match kind {
        "ed25519" => Ok(Keypair::generate_ed25519()),
        "secp256k1" => Ok(Keypair::generate_secp256k1()),
        "ecdsa" => Ok(Keypair::generate_ecdsa()),
        _ => Err(format!("no key {kind}").into()),
    }
}

/// What a WebSocket over TLS shows and believes: `key.der`, `certificate.der` and `authority.der` of a folder.
fn secure_websocket(folder: &str) -> Result<websocket::tls::Config, Failure> {
    let read = |name: &str| fs::read(format!("{folder}/{name}.der"));
    let mut config = websocket::tls::Config::builder();
    config.server(
        websocket::tls::PrivateKey::new(read("key")?),
        [websocket::tls::Certificate::new(read("certificate")?)],
    )?;
    config.add_trust(&websocket::tls::Certificate::new(read("authority")?))?;
    Ok(config.finish())
}

macro_rules! secured {
    ($transport:expr, $security:expr) => {
        $transport
            .upgrade(Version::V1Lazy)
            .authenticate($security)
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .boxed()
    };
}

/// The one that an address to listen on asks for.
fn transport(key: &Keypair, given: &HashMap<String, String>) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Failure> {
    let listen = &given["listen"];
    if listen.ends_with("/quic-v1") {
        let quic = quic::tokio::Transport::new(quic::Config::new(key));
        return Ok(quic.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed());
    }
    let plain = tcp::tokio::Transport::new(tcp::Config::default());
    let by_tls = given["security"] == "tls";
    if !listen.ends_with("/ws") {
        return Ok(if by_tls { secured!(plain, tls::Config::new(key)?) } else { secured!(plain, noise::Config::new(key)?) });
    }
    let mut sockets = websocket::Config::new(plain);
    if let Some(folder) = given.get("certificates") {
        sockets.set_tls_config(secure_websocket(folder)?);
    }
    Ok(if by_tls { secured!(sockets, tls::Config::new(key)?) } else { secured!(sockets, noise::Config::new(key)?) })
}

fn new_gossipsub(key: &Keypair, only: Option<&String>) -> Result<gossipsub::Behaviour, Failure> {
    let mut config = gossipsub::ConfigBuilder::default();
    config
        .validation_mode(gossipsub::ValidationMode::Strict)
        // Its own default is 64 KiB; ours sends larger messages.
        .max_transmit_size(MIB)
        .publish_queue_duration(Duration::from_secs(300))
        .do_px();
    if let Some(version) = only {
        let kind = if version == "1.0.0" { gossipsub::Version::V1_0 } else { gossipsub::Version::V1_1 };
        config.protocol_id(format!("/meshsub/{version}"), kind);
    }
    Ok(gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Signed(key.clone()), config.build()?)?)
}

/// `--name value`, with what is meant where one is left out.
fn options() -> Result<HashMap<String, String>, Failure> {
    let defaults = [("security", "noise"), ("muxer", "yamux"), ("key", "ed25519"), ("secret", "")];
    let mut given: HashMap<String, String> = defaults.map(|(name, value)| (name.into(), value.into())).into();
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let name = name.strip_prefix("--").ok_or(format!("what is {name}?"))?;
        given.insert(name.into(), words.next().ok_or(format!("--{name} VALUE"))?);
    }
    let known = [("noise", "yamux"), ("tls", "yamux"), ("none", "none")]; // the last is QUIC's, which has its own
    if !known.contains(&(&*given["security"], &*given["muxer"])) || !given.contains_key("listen") {
        return Err("--listen MULTIADDR --security noise|tls --muxer yamux".into());
    }
    Ok(given)
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failure> {
    let given = options()?;
    let key = keypair(&given["key"])?;
    let secret = hex::decode(&given["secret"])?;
    let serve: streams::Serve = Arc::new(move |peer, name, stream| {
        let _ = tokio::spawn(protocols::serve(secret.clone(), peer, name, stream));
    });
    let streams = streams::Behaviour::new(&[protocols::DIGEST, protocols::RESET, protocols::PERF], serve);
    let opener = streams.opener();
    let behaviour = Behaviour {
        gossipsub: new_gossipsub(&key, given.get("router"))?,
        identify: identify::Behaviour::new(identify::Config::new_with_signed_peer_record("stack/1".into(), &key)),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(PING_SECONDS))),
        streams,
    };
    let transport = transport(&key, &given)?;
    let mut swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|_| transport)?
        .with_behaviour(|_| behaviour)?
        // Nobody but the tests decides how long a connection lasts.
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    swarm.listen_on(given["listen"].parse()?)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut peer = Peer {
        swarm,
        opener,
        told: HashMap::new(),
        pinging: HashSet::new(),
        counts: HashMap::new(),
        flood: None,
    };
    loop {
        let pause = peer.flood_some()?;
        tokio::select! {
            biased;
            event = peer.swarm.select_next_some() => peer.saw(event),
            line = lines.next_line() => match line?.as_deref() {
                None | Some("quit") => return Ok(()),
                Some(line) => if let Err(error) = peer.obey(line) {
                    println!("error {error}");
                }
            },
            _ = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}
