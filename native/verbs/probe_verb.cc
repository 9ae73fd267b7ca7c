// vmm probe: what this host's CPU and KVM offer, as JSON on stdout, for `doctor`.
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "kvm/engine_choice.h"
#include "replay/file.h"
#include "replay/log_json.h"
#include "verbs/verbs.h"

namespace node_mesh {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct CpuInfo {
  std::string model;
  bool has_svm = false;
  bool has_vmx = false;
};

CpuInfo read_cpu_info() {
  CpuInfo info;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) info.model = line.substr(colon + 2);
    if (!line.starts_with("flags")) continue;
    std::istringstream flags(line.substr(colon + 2));
    for (std::string flag; flags >> flag;) {
      if (flag == "svm") info.has_svm = true;
      if (flag == "vmx") info.has_vmx = true;
    }
  }
  return info;
}

// A KVM that works on a CPU that shows neither extension is one that needs none.
std::string kvm_kind(const CpuInfo& cpu) {
  if (fs::exists("/sys/module/kvm_pvm")) return "pvm";
  if (cpu.has_svm || fs::exists("/sys/module/kvm_amd")) return "svm";
  if (cpu.has_vmx || fs::exists("/sys/module/kvm_intel")) return "vmx";
  return "pvm";
}

json probe_kvm(const CpuInfo& cpu) {
  json kvm = {{"present", fs::exists("/dev/kvm")},
              {"permitted", false},
              {"api_version", nullptr},
              {"kind", nullptr},
              {"why", ""}};
  if (!kvm["present"].get<bool>()) {
    kvm["why"] = "there is no /dev/kvm";
    return kvm;
  }
  const auto device = open_file("/dev/kvm", O_RDWR);
  if (!device) {
    kvm["why"] = "/dev/kvm cannot be opened: " + device.error();
    return kvm;
  }
  kvm["permitted"] = true;
  const int version = ::ioctl(device->get(), KVM_GET_API_VERSION, 0);
  if (version < 0) {
    kvm["why"] = "/dev/kvm does not answer: " + error_text(errno);
    return kvm;
  }
  kvm["api_version"] = version;
  const FileDescriptor vm(::ioctl(device->get(), KVM_CREATE_VM, 0));
  if (!vm) {
    kvm["why"] = "no virtual machine can be created: " + error_text(errno);
    return kvm;
  }
  kvm["kind"] = kvm_kind(cpu);
  const auto has = [&](unsigned long capability) {
    return ::ioctl(vm.get(), KVM_CHECK_EXTENSION, capability) > 0;
  };
  kvm["capabilities"] = {{"sync_regs", has(KVM_CAP_SYNC_REGS)},
                         {"user_memory", has(KVM_CAP_USER_MEMORY)},
                         {"readonly_memory", has(KVM_CAP_READONLY_MEM)},
                         {"immediate_exit", has(KVM_CAP_IMMEDIATE_EXIT)},
                         {"guest_debug", has(KVM_CAP_SET_GUEST_DEBUG)}};
  return kvm;
}

int probe() {
  const CpuInfo cpu = read_cpu_info();
  const std::string missing = missing_cpu_features();
  const EngineChoice best = best_engine();
  json engines = {"interp"};
  if (best.name == "kvm") engines.push_back("kvm");
  const json found = {
      {"cpu", {{"model", cpu.model}, {"usable", missing.empty()}, {"missing", missing}}},
      {"kvm", probe_kvm(cpu)},
      {"engines", engines},
      {"engine", best.name},
      {"engine_why", best.why},
      {"log_version", log_version}};
  std::printf("%s\n", dump_json(found, 2).c_str());
  return exit_ok;
}

}  // namespace

void add_probe_verb(CLI::App& app, Verb& chosen) {
  CLI::App* verb = app.add_subcommand("probe", "say what this host offers, as JSON");
  verb->callback([&chosen] { chosen = probe; });
}

}  // namespace node_mesh
