//! What every process needs: config, telemetry, admin port, health, serve, drain.
