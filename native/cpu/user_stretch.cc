#include "cpu/user_stretch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/exceptions.h"
#include "cpu/mmu.h"
#include "cpu/stub/stub.h"
#include "kvm/user_engine.h"
#include "machine/check.h"

namespace node_mesh {
namespace {

constexpr u16 user_code = 0x33, user_data = 0x2b;
// After a stop for the sake of one instruction, so that this one is counted.
constexpr u64 counted_after_stop = 64;

bool modes_fit(const Core* c) {
  constexpr u64 needed_cr0 = cr0::pe | cr0::wp | cr0::pg;
  constexpr u64 needed_cr4 = cr4::pae | cr4::osfxsr | cr4::osxmmexcpt;
  constexpr u64 needed_efer = efer::sce | efer::lma | efer::nxe;
  return (c->cr0 & (needed_cr0 | cr0::em | cr0::ts)) == needed_cr0 &&
         (c->cr4 & needed_cr4) == needed_cr4 && (c->efer & needed_efer) == needed_efer;
}

bool segments_fit(const Core* c) {
  return c->segments[seg_cs].selector == user_code && c->segments[seg_ss].selector == user_data;
}

}  // namespace

bool may_hand_over(const Core* c, Position limit) {
  return c->code64() && c->stretch_steps < limit.steps && !(c->sysflags & rflags::ac) &&
         segments_fit(c) && modes_fit(c);
}

void plan_hand_over(Core* c) {
  c->hand_over_known = true;
  const u64 first = std::max(c->engine->software_first(*c), std::exchange(c->counted_first, 0));
  c->hand_over_at = c->icount + first;
}

void hand_over(Core* c) {
  if (!c->uncounted) {
    c->uncounted = true;
    c->counted = c->icount;
    c->mmu->begin_write_log();
  }
  c->fpu_away = true;
  switch (c->engine->run(*c)) {
    case UserEngine::Stop::trap:
      c->hand_over_at = c->icount + c->engine->software_after_trap();
      break;
    case UserEngine::Stop::kicked:
      c->hand_over_at = c->icount;
      break;
    case UserEngine::Stop::failed:
      c->exit_wanted = true;
      c->exit = RunExit::engine_failed;
      break;
  }
  update_modes(c);
}

void end_uncounted(Core* c) {
  c->uncounted = false;
  c->mmu->end_write_log();
  c->engine->stretch_ended();
  if (c->stop_deferred.exchange(false)) c->stop_requested.store(true);
}

void note_forced_stop(Core* c) {
  NM_CHECK(c->uncounted && c->user() && !c->fpu_away);
  auto result = std::make_unique<Preemption>();
  UserState& state = result->state;
  std::copy(std::begin(c->gpr), std::end(c->gpr), state.gpr.begin());
  state.rip = c->architectural_ip(c->rip);
  c->sysflags &= ~rflags::rf;
  state.rflags = c->read_rflags();
  for (unsigned index = 0; index < segment_count; ++index) {
    const Segment& segment = c->segments[index];
    state.segments[index] = {segment.selector, c->seg_base[index], segment.limit,
                             segment.attributes};
  }
  state.fpu = c->fpu;
  std::vector<u64> pages = c->engine->take_stretch_pages(*c->memory);
  const std::vector<u64>& written = c->mmu->written_pages();
  pages.insert(pages.end(), written.begin(), written.end());
  std::ranges::sort(pages);
  const auto same = std::ranges::unique(pages);
  pages.erase(same.begin(), same.end());
  result->pages.resize(pages.size());
  for (std::size_t n = 0; n < pages.size(); ++n) {
    result->pages[n].gfn = pages[n];
    std::memcpy(result->pages[n].bytes.data(), c->memory->base() + pages[n] * page_bytes,
                page_bytes);
  }
  c->preemption = std::move(result);
  c->uncounted = false;
  c->stop_deferred = false;
  c->icount = c->counted;
  c->mmu->end_write_log();
  c->engine->stretch_stopped(pages.size());
}

void leave_uncounted(Core* c, const Insn* i) {
  c->counted_first = counted_after_stop;
  c->exit = RunExit::preempted;
  unwind(c, i, Unwind::exit);
}

void fetch_fpu(Core* c) {
  c->fpu_away = false;
  c->engine->fetch_fpu(c->fpu);
  update_modes(c);
}

}  // namespace node_mesh
