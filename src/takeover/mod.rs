//! Service addresses on and off, announcements, virtual MAC, conflict probe.
