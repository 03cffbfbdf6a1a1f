// SPDX-License-Identifier: Apache-2.0

//! The pool that the instances of a server come from: their memories, tables and stacks are mapped once, and used again.
//!
//! Mapping memory is the largest cost of an instance in a Keep: system calls, page tables, faults.

use enarx_configuration::precompiled::Facts;
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Memory of the Keep for each instance, in bytes, in addition to twice the memory that stays with the pool; their
/// number follows from it.
const INSTANCE_MEMORY: u64 = 9 << 20;
/// Fewest and most instances at a time.
const INSTANCES: (u64, u64) = (8, 128);
/// Fewest and most bytes of a memory that stay with the pool; between these, what the application's memory starts with. They
/// are overwritten, which is less work than to give them back and map them again.
const KEPT: (u64, u64) = (512 << 10, 32 << 20);
/// Bytes of a table that stay with the pool.
const TABLE_KEPT: usize = 64 << 10;
/// Core instances of a component: its own modules, and what joins them.
const CORE_INSTANCES: u32 = 16;
/// Memories of an instance.
const MEMORIES: u32 = 2;
/// Tables of an instance.
const TABLES: u32 = 4;
/// Stacks of an instance whose functions are asynchronous: each of its tasks that waits in a call has one.
const STACKS: u32 = 4;
/// Elements that every table has room for.
const ELEMENTS: u64 = 1024;
/// Largest data of an instance, in bytes, other than its memories.
const INSTANCE_SIZE: usize = 4 << 20;

/// The size of a pool.
pub struct Pool {
    /// Bytes of memory that there are for everything.
    memory: u64,
    instances: u32,
    elements: usize,
    /// Bytes of each memory that stay.
    kept: usize,
    /// Stacks of an instance.
    stacks: u32,
}

impl Pool {
    /// A pool for the instances of an application in this many bytes of memory.
    pub fn new(memory: u64, facts: &Facts) -> Self {
        let (fewest, most) = INSTANCES;
        let (least, enough) = KEPT;
        let kept = facts.memory.clamp(least, enough);
        let each = INSTANCE_MEMORY.saturating_add(kept.saturating_mul(2));
        let instances = (memory / each).clamp(fewest, most);
        // A table may double.
        let elements = facts.table.saturating_mul(2).max(ELEMENTS);
        Self {
            memory,
            instances: u32::try_from(instances).unwrap_or(u32::MAX),
            elements: usize::try_from(elements).unwrap_or(usize::MAX),
            kept: usize::try_from(kept).unwrap_or(usize::MAX),
            stacks: if facts.concurrent { STACKS } else { 1 },
        }
    }

    /// Bytes of memory that there are for everything.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Instances at a time.
    pub fn instances(&self) -> usize {
        usize::try_from(self.instances).unwrap_or(usize::MAX)
    }

    /// Bytes that stay with the pool, whatever runs.
    pub fn kept(&self) -> u64 {
        u64::from(self.instances).saturating_mul(self.kept as u64)
    }

    /// The pool as Wasmtime takes it.
    pub fn strategy(&self) -> InstanceAllocationStrategy {
        let mut config = PoolingAllocationConfig::new();
        let of = |each: u32| self.instances.saturating_mul(each);
        config
            .total_component_instances(self.instances)
            .total_core_instances(of(CORE_INSTANCES))
            .total_memories(of(MEMORIES))
            .total_tables(of(TABLES))
            .total_stacks(of(self.stacks))
            .total_gc_heaps(self.instances)
            .max_core_instances_per_component(CORE_INSTANCES)
            .max_memories_per_component(MEMORIES)
            .max_memories_per_module(MEMORIES)
            .max_tables_per_component(TABLES)
            .max_tables_per_module(TABLES)
            .max_component_instance_size(INSTANCE_SIZE)
            .max_core_instance_size(INSTANCE_SIZE)
            .table_elements(self.elements)
            .linear_memory_keep_resident(self.kept)
            .table_keep_resident(TABLE_KEPT)
            // No Keep has the files of Linux by which used pages are found.
            .pagemap_scan(Enabled::No);
        InstanceAllocationStrategy::Pooling(config)
    }
}
