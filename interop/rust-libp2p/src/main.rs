//! A peer that obeys those lines of ../../lines.md that are about gossipsub.

use std::{collections::HashMap, error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    gossipsub, identify, identity, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux, Multiaddr, PeerId, Swarm, SwarmBuilder,
};
use tokio::io::{AsyncBufReadExt, BufReader};

const MIB: usize = 1 << 20;
/// Messages that are published before the network is served again.
const BURST: usize = 16;

#[derive(NetworkBehaviour)]
struct Behaviour {
    gossipsub: gossipsub::Behaviour,
    identify: identify::Behaviour,
}

struct Flood {
    topic: String,
    count: u64,
    done: u64,
    size: usize,
}

fn flood_some(swarm: &mut Swarm<Behaviour>, flood: &mut Flood) -> Result<bool, Box<dyn Error>> {
    for _ in 0..BURST {
        if flood.done == flood.count {
            return Ok(true);
        }
        let mut data = vec![0; flood.size];
        data[..8].copy_from_slice(&flood.done.to_be_bytes());
        let topic = gossipsub::IdentTopic::new(&flood.topic);
        match swarm.behaviour_mut().gossipsub.publish(topic, data) {
            Ok(_) => flood.done += 1,
            Err(gossipsub::PublishError::AllQueuesFull(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = std::env::args().nth(2).ok_or("--listen ADDRESS")?;
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key: &identity::Keypair| {
            let config = gossipsub::ConfigBuilder::default()
                .validation_mode(gossipsub::ValidationMode::Strict)
                // Its own default is 64 KiB; ours sends larger messages.
                .max_transmit_size(MIB)
                .publish_queue_duration(Duration::from_secs(300))
                .do_px()
                .build()?;
            Ok(Behaviour {
                gossipsub: gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Signed(key.clone()), config)?,
                identify: identify::Behaviour::new(identify::Config::new("stack/1".into(), key.public())),
            })
        })?
        // Nobody but the tests decides how long a connection lasts.
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    let me = *swarm.local_peer_id();
    swarm.listen_on(listen.parse()?)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut counts: HashMap<String, (u64, u64)> = HashMap::new();
    let mut flood: Option<Flood> = None;
    loop {
        let mut pause = Duration::from_secs(3600);
        if let Some(some) = flood.as_mut() {
            pause = if flood_some(&mut swarm, some)? { Duration::ZERO } else { Duration::from_millis(1) };
            if some.done == some.count {
                println!("flooded {} {}", some.topic, some.count);
                flood = None;
            }
        }
        tokio::select! {
            biased;
            event = swarm.select_next_some() => match event {
                SwarmEvent::NewListenAddr { address, .. } => println!("ready {me} {address}/p2p/{me}"),
                SwarmEvent::ConnectionEstablished { peer_id, .. } => println!("connected {peer_id}"),
                SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => println!("disconnected {peer_id}"),
                SwarmEvent::OutgoingConnectionError { error, .. } => println!("error {error}"),
                SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(gossipsub::Event::Message { message, .. })) => {
                    let topic = message.topic.into_string();
                    if let Some((seen, wanted)) = counts.get_mut(&topic) {
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
            },
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let words: Vec<&str> = line.split(' ').collect();
                match words[..] {
                    ["connect", address] => swarm.dial(address.parse::<Multiaddr>()?)?,
                    ["disconnect", peer] => drop(swarm.disconnect_peer_id(peer.parse::<PeerId>()?)),
                    ["subscribe", topic] => {
                        swarm.behaviour_mut().gossipsub.subscribe(&gossipsub::IdentTopic::new(topic))?;
                        println!("subscribed {topic}");
                    }
                    ["unsubscribe", topic] => {
                        swarm.behaviour_mut().gossipsub.unsubscribe(&gossipsub::IdentTopic::new(topic));
                        println!("unsubscribed {topic}");
                    }
                    ["publish", topic, data] => {
                        let topic = gossipsub::IdentTopic::new(topic);
                        match swarm.behaviour_mut().gossipsub.publish(topic.clone(), hex::decode(data)?) {
                            Ok(_) => println!("published {topic}"),
                            Err(error) => println!("error {error}"),
                        }
                    }
                    ["peers", topic] => {
                        let hash = gossipsub::IdentTopic::new(topic).hash();
                        let peers: Vec<String> = swarm
                            .behaviour()
                            .gossipsub
                            .all_peers()
                            .filter(|(_, topics)| topics.contains(&&hash))
                            .map(|(peer, _)| peer.to_string())
                            .collect();
                        println!("peers {topic} {}", peers.join(","));
                    }
                    ["count", topic, wanted] => {
                        counts.insert(topic.to_string(), (0, wanted.parse()?));
                        println!("counting {topic}");
                    }
                    ["flood", topic, count, size] => {
                        flood = Some(Flood { topic: topic.into(), count: count.parse()?, done: 0, size: size.parse()? });
                    }
                    ["quit"] => return Ok(()),
                    _ => println!("error what is {line}?"),
                }
            },
            _ = tokio::time::sleep(pause), if flood.is_some() => {}
        }
    }
}
