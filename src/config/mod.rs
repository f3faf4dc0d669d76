//! Site and board files to typed settings; every timing inequality is checked here.
