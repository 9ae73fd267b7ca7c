// What a copy of a machine looks like at a position, short enough to log: register values, a hash a
// device and a sum over memory.
//
// Memory sum: XXH3-64 of each page with its page number (gfn) as the seed, added up mod 2^64; a
// page of zeros counts 0, so that untouched memory costs nothing. It is kept up to date by hashing
// again the pages that may have been written, and so does not depend on how an engine tracks them:
// a page counts as changed when its hash is another than at the digest before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "machine/machine.h"
#include "replay/log_schema.h"

namespace node_mesh {

class StateDigest {
 public:
  explicit StateDigest(std::uint64_t page_count);
  DigestEvent take(Machine& machine);
  // What a page counted as at the last digest; 0: as a page of zeros.
  std::uint64_t hash_of(std::uint64_t gfn) const { return hashes_[gfn]; }
  std::uint64_t memory_sum() const { return sum_; }
  // As if the last digest had found that; for machines that were restored.
  void set_hash(std::uint64_t gfn, std::uint64_t hash) {
    sum_ += hash - hashes_[gfn];
    hashes_[gfn] = hash;
  }
  // All pages that changed between the last two digests, by rising gfn.
  const std::vector<PageHash>& changed_pages() const { return changed_; }

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<std::uint64_t[], Free> hashes_;  // lazily zero: no cost for untouched pages
  std::uint64_t sum_ = 0;
  std::vector<PageHash> changed_;
};

// The hash of one page; 0 if it is all zeros, never 0 else.
std::uint64_t hash_of_page(const std::byte* page, std::uint64_t gfn);

// One number for a whole state, for people and for comparing runs.
std::uint64_t digest_summary(const DigestEvent& digest);

// The first place at which a replay was seen to differ from its recording.
struct Divergence {
  struct Register {
    std::string name;
    std::uint64_t recorded = 0;
    std::uint64_t replayed = 0;
  };
  std::uint64_t chunk = 0;
  Position at;
  std::string what;
  std::vector<Register> registers;
  std::vector<std::string> devices;
  std::vector<std::uint64_t> pages;  // gfns, at most divergence_pages_max
};

inline constexpr std::size_t divergence_pages_max = 64;

// Nothing differs: an empty `what`. `changed` are the replayed machine's changed pages.
Divergence compare_digests(const DigestEvent& recorded, const DigestEvent& replayed,
                           const std::vector<PageHash>& changed);

}  // namespace node_mesh
