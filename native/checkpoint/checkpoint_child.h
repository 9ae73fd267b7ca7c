// What the forked child of a CheckpointWriter does: it has a frozen copy of the guest's memory and
// writes it down, while the guest goes on in the parent. It is a copy of a process whose other
// threads are gone and whose locks may be held for ever, so it allocates nothing from the heap,
// throws nothing, calls nothing that takes a lock, touches no descriptor but its own, and ends with
// _exit(). What it has to say lies in a report that it shares with its parent.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>

#include "checkpoint/page_table.h"
#include "machine/guest_memory.h"
#include "replay/state_digest.h"

namespace node_mesh {

// Plain memory in a shared mapping.
struct ChildReport {
  enum class Stage : std::uint32_t { writing, written, published };
  Stage stage;
  char error[256];  // empty: none
  Sha256 manifest;
  std::uint64_t manifest_bytes;
  std::uint64_t pack_bytes;  // of the packs that it wrote
  std::uint64_t pages;       // in them
  std::uint64_t work_ns;
};

struct ChildJob {
  int directory = -1;
  int release = -1;  // an eventfd: once it can be read, the manifest may be published
  pid_t parent = 0;
  const GuestMemory* memory = nullptr;
  const StateDigest* digest = nullptr;
  std::span<std::uint8_t> candidates;  // by gfn: may differ from `previous`; the child's own
  std::span<const std::byte> entries;  // of the manifest, all but packs, runs and stale
  unsigned entry_count = 0;
  const PageTable* previous = nullptr;
  PageTable* next = nullptr;
  ChildReport* report = nullptr;
};

[[noreturn]] void run_checkpoint_child(const ChildJob& job);

}  // namespace node_mesh
