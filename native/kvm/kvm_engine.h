// Runs stretches of user mode in a vCPU of the host's KVM: enters it, classes what ends the run,
// fills the shadow tables from the CPU's own page walker, and hands back whatever it is not sure
// about. The software CPU is the only authority for faults: a trap is never delivered from here,
// its instruction is run again in software, which finds out for itself.
#pragma once

#include <atomic>
#include <expected>
#include <memory>
#include <optional>
#include <unordered_map>

#include "cpu/core.h"
#include "cpu/mmu.h"
#include "kvm/host_probe.h"
#include "kvm/monitor_page.h"
#include "kvm/scan/code_pages.h"
#include "kvm/shadow_tables.h"
#include "kvm/stretch_policy.h"
#include "kvm/user_engine.h"
#include "kvm/vcpu.h"

namespace node_mesh {

class KvmEngine final : public UserEngine {
 public:
  // `memory` must outlive the engine.
  static std::expected<std::unique_ptr<UserEngine>, std::string> create(GuestMemory& memory,
                                                                        const KvmTraits& traits);
  ~KvmEngine() override;

  Stop run(Core& core) override;
  const std::string& failure() const override { return failure_; }
  void fetch_fpu(FpuState& fpu) override;
  void request_stop() override;
  bool defers_stop() const override;
  void collect_dirty_pages(GuestMemory& memory) override;
  std::vector<std::uint64_t> take_stretch_pages(GuestMemory& memory) override;
  void drop_page(int space, std::uint64_t va) override;
  void drop_space(int space) override;
  void drop_everything() override;
  void forbid_writes(std::uint64_t gfn) override;
  void forbid_execution(std::uint64_t gfn) override;
  std::uint64_t software_first(const Core& core) override;
  std::uint64_t software_after_trap() override { return policy_.software_after_trap(); }
  void stretch_ended() override;
  void stretch_stopped(std::size_t pages) override;
  Counters counters() const override { return counters_; }

 private:
  enum class Next : std::uint8_t { enter, trap, kicked, failed };

  KvmEngine(GuestMemory& memory, const KvmTraits& traits, KvmVm vm, Vcpu vcpu, std::byte* pool);
  std::expected<void, std::string> set_up();

  void begin_stretch(Core& core);
  bool load(Core& core);
  void prefill(Core& core);
  Next enter(Core& core);
  Next take_port_exit(Core& core, std::uint16_t port);
  Next take_exception(Core& core, unsigned vector);
  Next take_interruption(Core& core);
  bool take_fault(Core& core, std::uint64_t va, std::uint64_t error);
  Next take_other_exit(Core& core, std::uint32_t reason);
  bool map(const Mmu::NativePage& page, bool writable, bool executable);
  void map_beside(unsigned space, std::uint64_t va);
  bool make_executable(Core& core, std::uint64_t gfn, std::uint64_t va);
  CodePageBytes code_of(std::uint64_t gfn) const;
  CodeNeighbours neighbours_of(std::uint64_t va) const;
  void note_flip(std::uint64_t gfn);
  bool flips_too_often(std::uint64_t gfn);
  Next leave(Core& core, std::uint64_t rip, std::uint64_t rsp_value, std::uint64_t flags);
  void store_general(Core& core, const kvm_regs& regs);
  void store_segments(Core& core);
  std::optional<unsigned char> code_byte(std::uint64_t va) const;
  bool renew_tables();
  Next fail(const std::string& why);
  void harvest(GuestMemory& memory);

  GuestMemory& memory_;
  const KvmTraits traits_;
  // The order of destruction: the vCPU, its VM, then the memory they use.
  struct PoolDeleter {
    void operator()(std::byte* pool) const;
  };
  std::unique_ptr<std::byte, PoolDeleter> pool_;
  KvmVm vm_;
  Vcpu vcpu_;
  std::vector<KvmVm::Region> ram_;
  KvmVm::Region pool_region_;
  MonitorPage monitor_;
  ShadowTables tables_;
  StretchPolicy policy_;
  kvm_sregs base_{};
  CodePages code_;
  // Pages that are written and run in turns: looking through one costs a millisecond.
  struct Flips {
    unsigned count = 0;
    std::uint64_t until_ns = 0;  // not run directly before
  };
  std::unordered_map<std::uint64_t, Flips> flips_;
  Mmu* mmu_ = nullptr;
  unsigned space_ = 0;
  bool fpu_here_ = false;
  std::string failure_;
  Counters counters_;

  bool in_stretch_ = false;
  std::uint64_t stretch_vcpu_ns_ = 0;
  std::uint64_t harvested_ns_ = 0;
  std::vector<std::uint64_t> stretch_pages_;
  std::uint64_t last_rip_ = 0, last_rsp_ = 0;
  static constexpr unsigned same_faults_max = 16;
  std::uint64_t last_fault_va_ = 0;
  unsigned same_faults_ = 0;
  bool port_exit_passes_ = false;  // RIP is behind an OUT when its exit arrives
  std::atomic<std::uint64_t> slice_ns_;
  std::atomic<std::uint64_t> stretch_since_ns_ = 0;  // 0: no stretch
  std::atomic<bool> running_ = false;
  std::atomic<bool> stop_wanted_ = false;
};

}  // namespace node_mesh
