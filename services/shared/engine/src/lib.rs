//! Many sequences, one device: sequence, scheduler, kv, sampler, beam, runner, engine, handle.
