#include "kvm/host_probe.h"

#include <sys/mman.h>

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "kvm/host_time.h"
#include "kvm/monitor_page.h"
#include "kvm/shadow_tables.h"
#include "kvm/user_mode_setup.h"
#include "kvm/vcpu.h"
#include "machine/cpu_model.h"
#include "machine/format_text.h"

namespace node_mesh {
namespace {

constexpr std::uint64_t pool_gpa = 1 << 30;
constexpr std::uint64_t pool_pages = 32, code_page = MonitorPage::page_count,
                        reserved_pages = code_page + 1;
constexpr std::uint64_t user_va = 0x400000, unmapped_va = 0x600000;
constexpr unsigned round_trips = 40;

struct Unmap {
  void operator()(std::byte* pool) const { ::munmap(pool, pool_pages * page_bytes); }
};

std::vector<ShadowTables::FixedPage> all_accessible() {
  std::vector<ShadowTables::FixedPage> pages;
  for (unsigned n = 0; n < MonitorPage::page_count; ++n) {
    pages.push_back({pool_gpa + n * page_bytes, true, n == MonitorPage::exception_stack,
                     n == MonitorPage::exception_stubs || n == MonitorPage::syscall_stub});
  }
  return pages;
}

// A machine of one page of user code.
class Probe {
 public:
  using Outcome = std::expected<KvmTraits, std::string>;

  static Outcome run() {
    void* at = ::mmap(nullptr, pool_pages * page_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return std::unexpected("no memory for a test");
    std::unique_ptr<std::byte, Unmap> pool(static_cast<std::byte*>(at));
    auto vm = KvmVm::create();
    if (!vm) return std::unexpected(vm.error());
    auto mapped = vm->add_region({0, pool_gpa, pool_pages * page_bytes, pool.get(), false});
    if (!mapped) return std::unexpected(mapped.error());
    auto vcpu = Vcpu::create(*vm);
    if (!vcpu) return std::unexpected(vcpu.error());
    return Probe(pool.get(), *vcpu).all();
  }

 private:
  Probe(std::byte* pool, Vcpu& vcpu)
      : pool_(pool),
        vcpu_(vcpu),
        monitor_(pool, MonitorPage::random_base()),
        tables_({pool, pool_gpa, pool_pages, reserved_pages}, pool_gpa / page_bytes + pool_pages,
                monitor_.base(), all_accessible()) {}

  struct Trap {
    bool syscall = false;
    unsigned vector = 0;
    std::uint64_t rip = 0, error = 0, cr2 = 0;
    unsigned privilege = 0;
    kvm_regs regs{};
  };
  // Runs `code` from its first byte until it traps.
  std::expected<Trap, std::string> trap_of(std::span<const unsigned char> code) {
    std::memset(pool_ + code_page * page_bytes, 0xf4, page_bytes);
    std::memcpy(pool_ + code_page * page_bytes, code.data(), code.size());
    vcpu_.regs() = {};
    vcpu_.regs().rip = user_va;
    vcpu_.regs().rsp = user_va + 0x800;
    vcpu_.regs().rflags = 0x202;
    vcpu_.sregs() = base_;
    const Vcpu::Outcome outcome = vcpu_.run();
    if (outcome.exit == Vcpu::Exit::failed) {
      return std::unexpected(format_text("KVM_RUN: %s", std::strerror(outcome.error)));
    }
    Trap trap;
    trap.regs = vcpu_.regs();
    trap.privilege = vcpu_.sregs().cs.dpl;
    trap.cr2 = vcpu_.sregs().cr2;
    if (outcome.exit == Vcpu::Exit::port && outcome.port == MonitorPage::syscall_port &&
        monitor_.in_syscall_stub(trap.regs.rip)) {
      trap.syscall = true;
      return trap;
    }
    const auto vector = monitor_.exception_at(trap.regs.rip);
    if (outcome.exit != Vcpu::Exit::port || outcome.port != MonitorPage::exception_port ||
        !vector) {
      return std::unexpected(format_text("user code ended with exit %u at %llx", outcome.reason,
                                         static_cast<unsigned long long>(trap.regs.rip)));
    }
    const MonitorPage::Frame frame = monitor_.frame(*vector, trap.regs.rsp);
    trap.vector = *vector;
    trap.rip = frame.rip;
    trap.error = frame.error;
    return trap;
  }

  Outcome all() {
    base_ = user_mode_sregs(monitor_, true);
    const bool room = tables_.map(0, user_va, pool_gpa + code_page * page_bytes, true, true);
    base_.cr3 = tables_.enter(0);
    if (!room || base_.cr3 == 0) return std::unexpected("the test's tables do not fit");
    if (auto set = vcpu_.set_base(base_, monitor_.syscall_entry()); !set) {
      return std::unexpected(set.error());
    }
    if (auto set = vcpu_.use_this_thread(); !set) return std::unexpected(set.error());
    KvmTraits traits;
    for (const auto step : {&Probe::try_syscall, &Probe::try_faults, &Probe::try_time_stamp,
                            &Probe::try_cpuid, &Probe::time_round_trips}) {
      if (auto done = (this->*step)(traits); !done) return std::unexpected(done.error());
    }
    return traits;
  }

  using Step = std::expected<void, std::string>;

  Step try_syscall(KvmTraits& traits) {
    const unsigned char code[] = {0xb8, 0x78, 0x56, 0x34, 0x12, 0x0f, 0x05};
    const auto trap = trap_of(code);
    if (!trap) return std::unexpected(trap.error());
    if (!trap->syscall || trap->regs.rax != 0x12345678 || trap->regs.rcx != user_va + sizeof code ||
        trap->regs.rsp != user_va + 0x800) {
      return std::unexpected("SYSCALL of user code does not arrive as it should");
    }
    traits.syscall_stays_in_user = trap->privilege == 3;
    return {};
  }

  Step try_faults(KvmTraits&) {
    const unsigned char undefined[] = {0x90, 0x0f, 0x0b};
    auto trap = trap_of(undefined);
    if (!trap) return std::unexpected(trap.error());
    if (trap->syscall || trap->vector != 6 || trap->rip != user_va + 1) {
      return std::unexpected("an undefined instruction does not arrive as it should");
    }
    const unsigned char store[] = {0xbf, 0x10, 0x00, 0x60, 0x00, 0x89, 0x07};
    trap = trap_of(store);
    if (!trap) return std::unexpected(trap.error());
    if (trap->syscall || trap->vector != 14 || trap->rip != user_va + 5 ||
        trap->cr2 != unmapped_va + 0x10 || (trap->error & 7) != 6) {
      return std::unexpected("a page fault does not arrive as it should");
    }
    return {};
  }

  Step try_time_stamp(KvmTraits& traits) {
    const unsigned char code[] = {0x0f, 0x31, 0x0f, 0x0b};
    const auto trap = trap_of(code);
    if (!trap) return std::unexpected(trap.error());
    traits.traps_time_stamp = !trap->syscall && trap->vector == 13 && trap->rip == user_va;
    return {};
  }

  Step try_cpuid(KvmTraits& traits) {
    const unsigned char code[] = {0xb8, 1, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0x0f, 0x0b};
    const auto trap = trap_of(code);
    if (!trap) return std::unexpected(trap.error());
    const Bus::CpuidResult model = mesh_v1_cpuid(1, 0, true);
    traits.traps_cpuid = !trap->syscall && trap->vector == 6 && trap->regs.rax == model.eax &&
                         trap->regs.rcx == model.ecx;
    return {};
  }

  Step time_round_trips(KvmTraits& traits) {
    const unsigned char code[] = {0x0f, 0x05};
    std::uint64_t best_ns = UINT64_MAX;
    for (unsigned n = 0; n < round_trips; ++n) {
      const std::uint64_t start_ns = host_now_ns();
      const auto trap = trap_of(code);
      if (!trap) return std::unexpected(trap.error());
      best_ns = std::min(best_ns, host_now_ns() - start_ns);
    }
    traits.round_trip_ns = best_ns;
    return {};
  }

  std::byte* pool_;
  Vcpu& vcpu_;
  MonitorPage monitor_;
  ShadowTables tables_;
  kvm_sregs base_{};
};

}  // namespace

std::string KvmTraits::text() const {
  return format_text("KVM of kind %s, %.1f us a round trip, RDTSC %s, CPUID %s", kind().c_str(),
                     static_cast<double>(round_trip_ns) / 1000.0,
                     traps_time_stamp ? "traps" : "does not trap",
                     traps_cpuid ? "is the model's" : "is the host's");
}

std::expected<KvmTraits, std::string> probe_kvm_host() { return Probe::run(); }

}  // namespace node_mesh
