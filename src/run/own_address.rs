//! The own addresses of a box that is all ours: on the helper's thread, because probing takes its time and makes system calls.

use std::net::IpAddr;
use std::rc::Rc;

use smol::Timer;

use super::helper::Helper;
use super::interface;
use super::letters::ToLoop;
use crate::clock;
use crate::config::Config;
use crate::takeover::own::{Own, PAUSE};
use crate::time::Duration;
use crate::wire::pair::Side;

/// How often is listened, once all is settled, for others who claim an address of ours.
const LOOK: Duration = Duration::from_secs(1);

/// Puts the addresses on and looks after them for as long as the daemon lives. The loop is told of each one.
pub(super) async fn keep(helper: Rc<Helper>) {
    let mut own = loop {
        match addresses(&helper.config, helper.options.node).and_then(|all| Own::open(&all).map_err(|e| e.to_string()))
        {
            Ok(own) => break own,
            Err(error) => log::error!("own addresses: {error}; tried again in {LOOK:?}"),
        }
        Timer::after(LOOK).await;
    };
    let mut told: Vec<IpAddr> = Vec::new();
    loop {
        let settled = own.turn(clock::now());
        *helper.own_addresses.borrow_mut() = own.stands().collect();
        for ip in own.stands().filter(|stands| stands.ours).map(|stands| stands.ip) {
            // A loop that takes no letters is told again.
            if !told.contains(&ip) && helper.to_loop.send(ToLoop::OwnAddress(ip)).is_ok() {
                told.push(ip);
            }
        }
        Timer::after(if settled { LOOK } else { PAUSE }).await;
    }
}

/// Name of the interface, address and length of its prefix, of all own addresses of this box.
fn addresses(config: &Config, side: Side) -> Result<Vec<(String, IpAddr, u8)>, String> {
    let own = &config.site.nodes[side as usize];
    own.iter()
        .map(|own| {
            let wanted = config.board.interface(&own.interface);
            let wanted = wanted.ok_or_else(|| format!("the board file has no [interface.{}]", own.interface))?;
            Ok((interface::find(wanted)?, own.prefix.ip, own.prefix.length))
        })
        .collect()
}
