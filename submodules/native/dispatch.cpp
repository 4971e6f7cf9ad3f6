#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "module.h"

namespace gs4d {
namespace {

const char* const NAMES[] = {"portable", "avx2", "avx512"};

bool runs(Isa isa) {
#ifdef GS4D_HAS_AVX512
    __builtin_cpu_init();
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
              __builtin_cpu_supports("bmi2");
    if (isa == Isa::avx2) return v3;
    if (isa == Isa::avx512)
        return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return isa == Isa::portable;
}

std::vector<std::string> available() {
    std::vector<std::string> names;
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
        if (runs(isa)) names.push_back(NAMES[int(isa)]);
    return names;
}

Isa parse(const std::string& name, const std::string& who) {
    for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
        if (name == NAMES[int(isa)] && runs(isa)) return isa;
    std::string message = who + " names the instruction set '" + name + "': this machine runs";
    for (const std::string& known : available()) message += " " + known;
    throw std::invalid_argument(message);
}

Isa initial() {
    if (const char* name = std::getenv("GS4D_ISA")) return parse(name, "GS4D_ISA");
    return runs(Isa::avx512) ? Isa::avx512 : runs(Isa::avx2) ? Isa::avx2 : Isa::portable;
}

std::atomic<Isa>& current() {
    static std::atomic<Isa> value{initial()};
    return value;
}

}  // namespace

Isa isa() { return current().load(std::memory_order_relaxed); }

void bind_dispatch(nb::module_& m) {
    m.def("isa", [] { return NAMES[int(isa())]; });
    m.def("isas", available);
    m.def("set_isa", [](const std::string& name) { current() = parse(name, "set_isa"); }, nb::arg("name"));
}

}  // namespace gs4d
