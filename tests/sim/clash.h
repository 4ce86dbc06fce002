// What a C library may declare one day: names that the simulator and the kernels use for functions of CUDA.
#ifdef __cplusplus
extern "C" {
#endif
float rsqrtf(float);
int min(int, int);
int max(int, int);
int __clz(int);
int __ffs(int);
int __popc(unsigned);
float __int_as_float(int);
int atomicAdd(int*, int);
void __trap(void);
#ifdef __cplusplus
}
#endif
