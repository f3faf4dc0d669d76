//! A/B update of the appliance: another image beside the one that runs, tried once, kept when the pair is healthy.
//!
//! ```text
//! twobox-1.efi                                 runs
//! twobox-1.efi  twobox-2.new                   is being written
//! twobox-1.efi  twobox-2+1.efi                 whole and read back: one try
//! twobox-1.efi  twobox-2+0-1.efi               the boot loader has used up the try
//! twobox-1.efi  twobox-2.efi                   the pair was healthy: confirmed
//! ```
//!
//! The boot loader is systemd-boot, and the names are its boot counting (uapi-group.org, Boot Loader Specification): it
//! takes the highest number that has a try left. So the box is bootable whenever the power fails, and a box that does not
//! confirm boots its former image next. Nothing else says what is booted: no file, and no variable of the firmware that outlives
//! a reset.
//!
//! | file | is |
//! |---|---|
//! | [`slot`] | names and what is done to them: pure |
//! | [`image`] | what an image says of itself, and its seal: pure |
//! | [`trial`] | when a new image is kept: pure |
//! | [`demand`] | what it must have of what the former one had: pure |
//! | [`loader`] | what the boot loader says of a trial |
//! | [`esp`] | the partition with the slots |
//! | [`rot`] | the images in the slots, read again |
//! | [`fat`] | what a power cut leaves of its file system, put right |
//! | [`transfer`] | an image to the peer, over the mirror's kind of link |
//! | [`child`], [`bounds`] | the process that does the work, and what it must do without: what parses bulk data is never the daemon |

pub mod bounds;
pub mod child;
pub mod demand;
pub mod esp;
pub mod fat;
pub mod image;
pub mod loader;
pub mod rot;
pub mod slot;
pub mod transfer;
pub mod trial;
