//! Which face: PID 1, a daemon on a host, or a command. Parses and hands over.

fn main() {
    if std::process::id() == 1 {
        let boot = twobox::init::start();
        let reason = boot.obstacle().unwrap_or("the daemon is not part of this program yet").to_owned();
        twobox::init::wait::wait(boot, &reason);
    }
}
