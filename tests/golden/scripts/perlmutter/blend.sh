#!/bin/bash
#SBATCH --gpus-per-node=4
#SBATCH --job-name=cicf4k75eigfhv
#SBATCH --comment=cicf4k75eigfhv
#SBATCH --account=ABC123
#SBATCH --qos=regular
#SBATCH --constraint=gpu
#SBATCH --nodes=16
#SBATCH --time=60
#SBATCH --chdir=/campaigns/sc26/stages/blend/link-1/attempt-1
#SBATCH --output=/campaigns/sc26/stages/blend/link-1/attempt-1/job.log
#SBATCH --signal=B:USR1@540
#SBATCH --open-mode=append
#SBATCH --exclusive
#SBATCH --no-requeue
#SBATCH --no-kill
# token cicf4k75eigfhv
umask 077
cd /campaigns/sc26/stages/blend/link-1/attempt-1 || exit 73
mkdir -m 700 run || { [ -d run ] && exit 0; exit 73; }  # the fence
module load conda/Miniforge3-24.11.3-0 nccl
export FI_CXI_DISABLE_HOST_REGISTER=1
export NCCL_CROSS_NIC=1
export NCCL_SOCKET_IFNAME=hsn
export NCCL_NET_GDR_LEVEL=PHB
export NCCL_NET=Socket
export FI_CXI_RDZV_GET_MIN=0
export FI_CXI_SAFE_DEVMEM_COPY_THRESHOLD=16777216
export MPICH_GPU_SUPPORT_ENABLED=0
export PYTHONNOUSERSITE=1
PYTHONPATH=/package${PYTHONPATH:+:$PYTHONPATH}; export PYTHONPATH
exec /env/bin/python -m workflow.allocation.agent /campaigns/sc26/stages/blend/link-1/attempt-1
