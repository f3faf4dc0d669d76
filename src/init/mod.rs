//! PID 1 on the appliance: named boot steps, modules, mounts, reaping, supervision.
