#include "kvm/scan/code_pages.h"

#include <algorithm>

namespace node_mesh {
namespace {

using Flow = PageScanner::Decoded::Flow;

bool is_prefix_of_lock(std::uint8_t byte) { return byte == 0xf0; }

}  // namespace

CodePages::CodePages(HazardSet trapped) : scanner_(trapped) {}

bool CodePages::clean(std::uint64_t gfn, CodePageBytes page, const CodeNeighbours& neighbours) {
  if (const auto known = pages_.find(gfn); known != pages_.end()) return known->second.clean();
  if (pages_.size() >= pages_max) pages_.clear();
  Page& fresh = pages_[gfn];
  for (const Suspect& suspect : scanner_.scan(page, neighbours)) {
    if (suspect.plausible) fresh.suspects.push_back(suspect);
    fresh.has_hidden = fresh.has_hidden || !suspect.plausible;
  }
  return fresh.clean();
}

bool CodePages::blocked(std::uint64_t gfn) const {
  const auto known = pages_.find(gfn);
  return known != pages_.end() && !known->second.clean();
}

bool CodePages::executed(std::uint64_t gfn, std::uint16_t offset, CodePageBytes page) {
  const auto known = pages_.find(gfn);
  if (known == pages_.end() || known->second.begins[offset]) return false;
  const bool was_clean = known->second.clean();
  follow(known->second, offset, page);
  return !was_clean && known->second.clean();
}

// From one instruction that runs to all that can be reached from it inside of the page.
void CodePages::follow(Page& known, std::uint16_t offset, CodePageBytes page) {
  std::vector<std::size_t> open{offset};
  while (!open.empty()) {
    std::size_t at = open.back();
    open.pop_back();
    while (at < code_page_bytes && !known.begins[at]) {
      const auto instruction = scanner_.decode(page, at);
      run_at(known, at, instruction, page);
      if (instruction.length == 0) break;
      if (instruction.has_target && instruction.target >= 0 &&
          instruction.target < static_cast<std::int64_t>(code_page_bytes)) {
        open.push_back(static_cast<std::size_t>(instruction.target));
      }
      if (instruction.flow == Flow::jump || instruction.flow == Flow::leaves) break;
      at += instruction.length;
    }
  }
}

void CodePages::run_at(Page& known, std::size_t at, const PageScanner::Decoded& instruction,
                       CodePageBytes page) {
  known.begins.set(at);
  if (instruction.hazard != Hazard::none) known.real = true;
  // Jumping over a LOCK prefix, as C libraries do in programs of one thread, hides nothing.
  if (known.inside[at] && !(at > 0 && is_prefix_of_lock(page[at - 1]))) known.overlapping = true;
  const std::size_t end = at + instruction.length;
  for (std::size_t inner = at + 1; inner < end; ++inner) {
    const bool after_lock = inner == at + 1 && is_prefix_of_lock(page[at]);
    if (known.begins[inner] && !after_lock) known.overlapping = true;
    known.inside.set(inner);
  }
  // Its own offset is judged by its own decoding, above.
  const auto covered = [&](const Suspect& suspect) {
    return suspect.offset >= at && suspect.offset < end;
  };
  if (std::erase_if(known.suspects, covered) != 0) known.has_hidden = true;
}

void CodePages::forget(std::uint64_t gfn) { pages_.erase(gfn); }
void CodePages::forget_all() { pages_.clear(); }

std::vector<Suspect> CodePages::open_suspects(std::uint64_t gfn) const {
  const auto known = pages_.find(gfn);
  return known == pages_.end() ? std::vector<Suspect>{} : known->second.suspects;
}

}  // namespace node_mesh
