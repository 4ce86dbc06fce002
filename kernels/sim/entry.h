// Turns a kernel into something the scheduler can call, and spells its signature.
//
// One letter an argument: f float*, h bf16*, i int* (capitals: const, an input); n int, s float.
#pragma once

template <class T> struct SimLetter;
template <> struct SimLetter<float*> { static constexpr char value = 'f'; };
template <> struct SimLetter<__nv_bfloat16*> { static constexpr char value = 'h'; };
template <> struct SimLetter<int*> { static constexpr char value = 'i'; };
template <> struct SimLetter<const float*> { static constexpr char value = 'F'; };
template <> struct SimLetter<const __nv_bfloat16*> { static constexpr char value = 'H'; };
template <> struct SimLetter<const int*> { static constexpr char value = 'I'; };
template <> struct SimLetter<int> { static constexpr char value = 'n'; };
template <> struct SimLetter<float> { static constexpr char value = 's'; };

// src/device/sim/entries.rs has the same layout.
struct SimEntry {
    const char* signature;
    // `arguments[i]` points at argument i, as cuLaunchKernel takes them.
    void (*run)(void** arguments);
};

template <auto KERNEL> struct SimKernel;

template <class... A, void (*KERNEL)(A...)>
struct SimKernel<KERNEL> {
    static constexpr char signature[] = {SimLetter<A>::value..., '\0'};

    template <size_t... I>
    static void spread(void** arguments, std::index_sequence<I...>) {
        KERNEL(*static_cast<A*>(arguments[I])...);
    }
    static void run(void** arguments) { spread(arguments, std::index_sequence_for<A...>()); }
    static constexpr SimEntry entry = {signature, run};
};
