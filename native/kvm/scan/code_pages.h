// Remembers for each guest page whether its code may run on the host's CPU, and what is known about
// its bytes: which offsets the software CPU has run, and what follows from that. It never changes a
// mapping; who does must keep the rule that a page which may run is not written (a write forgets).
//
// A page is clean when it has no plausible hazard left. A suspect is dismissed when an instruction
// that runs covers it: one that the software CPU ran in this page, or one that follows from such an
// instruction by falling through or by a direct branch inside of the page. A suspect that is itself
// such an instruction is real: the page stays in software. So does a page in which instructions
// that run overlap each other while it has any suspect at all, plausible or not: somebody hides
// code there.
#pragma once

#include <bitset>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "kvm/scan/page_scan.h"

namespace node_mesh {

class CodePages {
 public:
  explicit CodePages(HazardSet trapped);

  // May all code of this page run natively? Scans it when it is not known yet.
  bool clean(std::uint64_t gfn, CodePageBytes page, const CodeNeighbours& neighbours = {});
  // Was it scanned and found not clean? (Where executed() is worth its while.)
  bool blocked(std::uint64_t gfn) const;
  // The software CPU runs the instruction at `offset`. `page` are the bytes that were scanned.
  // True: the page has become clean by that.
  bool executed(std::uint64_t gfn, std::uint16_t offset, CodePageBytes page);
  // The page was written, or is used for something else.
  void forget(std::uint64_t gfn);
  void forget_all();

  // What still stands against the page; for tests and statistics.
  std::vector<Suspect> open_suspects(std::uint64_t gfn) const;

 private:
  struct Page {
    std::vector<Suspect> suspects;        // not dismissed
    std::bitset<code_page_bytes> begins;  // instructions that run begin here
    std::bitset<code_page_bytes> inside;  // their other bytes
    bool has_hidden = false;              // there are suspects that were not plausible
    bool overlapping = false;
    bool real = false;  // a suspect runs
    bool clean() const { return suspects.empty() && !real && !(overlapping && has_hidden); }
  };
  static constexpr std::size_t pages_max = 65'536;  // at the cap all are forgotten

  void follow(Page& known, std::uint16_t offset, CodePageBytes page);
  void run_at(Page& known, std::size_t at, const PageScanner::Decoded& instruction,
              CodePageBytes page);

  PageScanner scanner_;
  std::unordered_map<std::uint64_t, Page> pages_;
};

}  // namespace node_mesh
