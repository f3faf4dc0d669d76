//! Two boxes of different boards. Each is told what its own board file says and what the site file says to both.

use crate::stage::{A, B, BOTH, EVER, Stage, setup};
use crate::world::clock::{MS, SECOND};
use crate::world::fault::Fault;
use crate::world::machine::Belts;
use std::path::Path;
use twobox::config::{self, key_file};
use twobox::node::Settings;
use twobox::run::settings;
use twobox::time::Duration;
use twobox::wire::pair::{BootId, Side};

/// The settings of the box `side`, which is of `board`.
fn told(dir: &Path, side: Side, board: &str) -> Settings {
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("board").join(board).join("board.toml");
    let config = config::load(&dir.join("site.toml"), &board).unwrap();
    settings::of_node(&config, side, BootId::new(1).expect("one is not zero"), None, false)
}

/// A loses its gate while nobody hears it, and serves on with the bound of its watchdog, which is longer than any of B's belts.
/// Then it is stopped twice, so that its last feed comes as late as may be, and B's leg to the witness returns.
#[test]
fn one_out_of_touch_is_waited_for_as_long_as_its_own_watchdog_takes() {
    let dir = std::env::temp_dir().join(format!("twobox-boards-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let key = dir.join("pair.key");
    key_file::create(&key).unwrap();
    let site = format!(
        "[pair]\nname = \"office\"\nkey-file = \"{}\"\n[node.a]\nlan = \"192.0.2.2/24\"\n[node.b]\nlan = \"192.0.2.3/24\"\n\
         [[address]]\nip = \"192.0.2.10/24\"\n[[witness]]\nip = \"192.0.2.1\"\n",
        key.display()
    );
    std::fs::write(dir.join("site.toml"), site).unwrap();
    let mut setup = setup(1);
    setup.settings = [told(&dir, Side::A, "generic-x86_64"), told(&dir, Side::B, "qemu-pc")];
    std::fs::remove_dir_all(&dir).unwrap();
    // Fed with every turn.
    setup.settings[A].feed = Duration::from_millis(10);
    // 200 % of two seconds, and a second; B's takes 2.3 s and 0.1 s.
    setup.belts[A] = Belts { gate: true, watchdog: Some((4 * SECOND, SECOND)), lifetime: None };
    setup.belts[B] = Belts { watchdog: Some((2_300 * MS, 100 * MS)), ..setup.belts[B] };

    let mut stage = Stage::settled(setup);
    stage.cut_all(BOTH);
    stage.does(Fault::LegCut { side: B, witness: 0, ways: BOTH, length: 30 * SECOND });
    stage.run(1);
    stage.does(Fault::BeltLoss { side: A, length: EVER });
    stage.run_ms(500);
    stage.nobody();
    stage.run_ms(28_499);
    stage.only(A);
    stage.does(Fault::StopTwice { side: A, length: 3_900 * MS, again: EVER });
    stage.run(8);
    stage.only(A);
    stage.until_serves(B, 4_000);
}
