#include "replay/state_digest.h"

#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include "machine/check.h"

namespace node_mesh {
namespace {

void fill_buckets(DigestEvent& digest, const std::vector<PageHash>& changed) {
  for (const PageHash& page : changed) {
    digest.buckets[page.gfn % digest_bucket_count] += page.hash;
  }
}

// Pages of which one side says another thing than the other. A list against buckets: the pages in
// the list are compared, those only in the buckets are candidates.
std::vector<std::uint64_t> differing_pages(const DigestEvent& recorded, const DigestEvent& replayed,
                                           const std::vector<PageHash>& changed) {
  std::vector<std::uint64_t> pages;
  const bool recorded_is_list = recorded.changed_pages <= digest_pages_max;
  std::map<std::uint64_t, std::uint32_t> listed;
  for (const PageHash& page : recorded.pages)
    listed[page.gfn] = page.hash;
  std::array<std::uint32_t, digest_bucket_count> own = replayed.buckets;
  if (!recorded_is_list && replayed.changed_pages <= digest_pages_max) {
    own = {};
    for (const PageHash& page : changed)
      own[page.gfn % digest_bucket_count] += page.hash;
  }
  for (const PageHash& page : changed) {
    if (recorded_is_list) {
      const auto found = listed.find(page.gfn);
      const bool same = found != listed.end() && found->second == page.hash;
      if (found != listed.end()) listed.erase(found);
      if (!same) pages.push_back(page.gfn);
    } else {
      const auto bucket = page.gfn % digest_bucket_count;
      if (own[bucket] != recorded.buckets[bucket]) pages.push_back(page.gfn);
    }
  }
  for (const auto& [gfn, hash] : listed)
    pages.push_back(gfn);
  std::ranges::sort(pages);
  if (pages.size() > divergence_pages_max) pages.resize(divergence_pages_max);
  return pages;
}

}  // namespace

std::uint64_t hash_of_page(const std::byte* page, std::uint64_t gfn) {
  std::uint64_t first = 0;
  std::memcpy(&first, page, sizeof first);
  if (first == 0 && std::memcmp(page, page + sizeof first, page_bytes - sizeof first) == 0) {
    return 0;
  }
  const std::uint64_t hash = XXH3_64bits_withSeed(page, page_bytes, gfn);
  return hash == 0 ? 1 : hash;
}

void StateDigest::Free::operator()(void* memory) const { std::free(memory); }

StateDigest::StateDigest(std::uint64_t page_count)
    : hashes_(static_cast<std::uint64_t*>(std::calloc(page_count, sizeof(std::uint64_t)))) {
  if (!hashes_) throw std::bad_alloc();
}

DigestEvent StateDigest::take(Machine& machine) {
  GuestMemory& memory = machine.memory();
  const std::vector<std::uint64_t> dirty = memory.take_dirty_pages();
  machine.after_dirty_pages_taken();
  changed_.clear();
  for (const std::uint64_t gfn : dirty) {
    const std::uint64_t hash = hash_of_page(memory.base() + gfn * page_bytes, gfn);
    if (hash == hashes_[gfn]) continue;
    sum_ += hash - hashes_[gfn];
    hashes_[gfn] = hash;
    changed_.push_back({gfn, static_cast<std::uint32_t>(hash)});
  }
  std::ranges::sort(changed_, {}, &PageHash::gfn);

  DigestEvent digest;
  digest.registers = register_values(machine.cpu_snapshot());
  for (const Machine::DeviceState& device : machine.device_states()) {
    digest.devices.push_back({device.name, XXH3_64bits(device.bytes.data(), device.bytes.size())});
  }
  NM_CHECK(digest.devices.size() <= digest_devices_max);
  digest.memory_sum = sum_;
  digest.changed_pages = changed_.size();
  if (changed_.size() > digest_pages_max) {
    fill_buckets(digest, changed_);
  } else {
    digest.pages = changed_;
  }
  return digest;
}

std::uint64_t digest_summary(const DigestEvent& digest) {
  ByteWriter out;
  for (const std::uint64_t value : digest.registers)
    out.u64(value);
  for (const DeviceHash& device : digest.devices) {
    out.text(device.name);
    out.u64(device.hash);
  }
  out.u64(digest.memory_sum);
  return XXH3_64bits(out.view().data(), out.size());
}

Divergence compare_digests(const DigestEvent& recorded, const DigestEvent& replayed,
                           const std::vector<PageHash>& changed) {
  Divergence result;
  for (std::size_t i = 0; i < register_count; ++i) {
    if (recorded.registers[i] == replayed.registers[i]) continue;
    result.registers.push_back(
        {std::string(register_name(i)), recorded.registers[i], replayed.registers[i]});
  }
  std::map<std::string, std::uint64_t> devices;
  for (const DeviceHash& device : recorded.devices)
    devices[device.name] = device.hash;
  for (const DeviceHash& device : replayed.devices) {
    const auto found = devices.find(device.name);
    if (found == devices.end() || found->second != device.hash) {
      result.devices.push_back(device.name);
    }
    if (found != devices.end()) devices.erase(found);
  }
  for (const auto& [name, hash] : devices)
    result.devices.push_back(name);
  const bool memory_differs = recorded.memory_sum != replayed.memory_sum ||
                              recorded.changed_pages != replayed.changed_pages;
  if (memory_differs) result.pages = differing_pages(recorded, replayed, changed);
  if (!result.registers.empty() || !result.devices.empty() || memory_differs) {
    result.what = "the state is not the recorded one";
  }
  return result;
}

}  // namespace node_mesh
